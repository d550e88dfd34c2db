//! Which language is a text in?
//!
//! Small words and letters that only one language has; scripts for the rest of the world. Built
//! for short and sloppy messages: a German sentence with an English verb in it is German. Knows
//! nothing of what is said.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The languages that words are known of.
const LANGUAGES: [&str; 11] = ["de", "en", "fr", "es", "it", "pt", "nl", "pl", "cs", "sv", "tr"];

/// Words by language, in the order of [`LANGUAGES`].
const WORDS: [&str; 11] = [
    "ich du er sie es wir ihr mich dich mir dir uns euch ihm ihn der die das den dem des ein eine einen einem einer eines kein keine keinen und oder aber denn weil dass wenn als ob wie was wer wo wann warum wieso weshalb welche welcher welches welchen ist sind war waren bin bist sein hat habe haben hatte wird werden wurde kann kannst können muss müssen soll sollte sollen will wollen möchte darf mag nicht auch noch nur schon mal bitte danke mit von zu zum zur bei für auf aus nach über unter vor zwischen im am vom beim ins durch gegen ohne um bis sehr mehr viel viele alle alles nichts etwas jetzt heute hier dort mein meine meinen dein deine unser unsere ihre seine sich man gibt geht macht machen mach schreib schreibe erkläre fasse gib nenne erstelle übersetze zusammen text satz folgenden hallo gut guten tag leiser lauter weiter licht wecker stelle morgen gestern wieder immer doch ja nein zwei drei gerne kurz diese dieser dieses diesen wäre würde hätte worden lass laut sag sagt weiß tun nach ohne sagen leben leute frage antwort teile spiele spiel ändere mache bewerte prüfe warst ganz nie",
    "the a an of to in is are was were be been i you he she it we they me him her us them my your his its our their this that these those and or but because if when what who where why how which do does did don't can can't could will would should must may might have has had not no yes with for from on at by about into over under between as than then there here please thanks thank write give make tell explain list summarize translate find name create some any all more most very just only also new one two three like want need know think get go come see say said people time good out up so am i'm it's that's let's what's play set turn next show add call much many",
    "le la les un une des du de je tu il elle nous vous ils elles est sont été était être et ou mais donc car que qui quoi dont où quand comment pourquoi ce cet cette ces mon ma mes ton ta tes son sa ses notre votre leur ne pas plus jamais rien avec pour par sur sous dans sans chez au aux en ai as avons avez ont fait faire peut peux c'est j'ai n'est qu'il d'un d'une l'on très bien tout tous toute même aussi ça oui non moi toi lui y si quel quelle personne veux vais été",
    "el la los las un una unos unas de del al que y o pero porque si cuando como cómo qué quién dónde por para con sin sobre entre es son era fue ser estar está están estoy no sí muy más menos también yo tú él ella nosotros ellos me te se lo le les mi tu su nuestro este esta esto ese esa eso hay tiene tengo hacer quiero puede puedo todo todos nada nunca siempre ya aquí ahora hoy mañana gracias usted eres ha he había a en",
    "il lo la i gli le un uno una di del della dei delle dal dalla al alla che e o ma perché se quando come cosa chi dove con per su tra fra in nel nella è sono era essere ho hai ha abbiamo hanno non più molto anche io tu lui lei noi voi loro mi ti si ci vi mio mia tuo sua questo questa quello quella c'è fare fatto va vuole voglio può posso tutto tutti niente mai sempre oggi ora qui grazie sei stato degli ne",
    "o a os as um uma uns umas de do da dos das no na nos nas em ao que e ou mas porque se quando como quem onde por para com sem sobre é são era foi ser estar está estão estou não sim muito mais também eu tu ele ela nós eles você vocês me te lhe meu minha seu sua este esta isto esse essa isso aquele há tem tenho fazer quero pode posso tudo todos nada nunca sempre já aqui agora hoje amanhã obrigado vai vou ter foram pelo pela",
    "de het een en van in op te aan met voor door over uit bij naar om dat die dit deze is zijn was waren ben bent heb heeft hebben had niet geen ik jij je hij zij ze wij we jullie mij hem haar ons mijn jouw hun wat wie waar wanneer hoe waarom maar of want als dan ook nog al wel zo er hier daar kan kunnen moet moeten wil willen zal zullen gaat gaan doen maken veel meer alles niets iemand goed nu vandaag u tot heel zou worden wordt toch eens",
    "i w na z ze do o od za po dla przy przez że się nie tak jest są był była było być to ten ta te tego tej tym tych ja ty on ona my wy oni mnie mi ci mu jej ich mój moja twój co kto gdzie kiedy jak dlaczego czy ale lub albo bo jeśli gdy bardzo już jeszcze tylko też może muszę chcę mam ma mają dzień dzisiaj tutaj teraz proszę dziękuję czas wszystko nic nigdy go jego czy nad jestem jesteś będzie",
    "a v na s z ze do o od za po pro při že se si ne ano je jsou byl byla bylo být to ten ta ty toho tom já on ona my vy oni mě mně mi ti mu jí jej jejich můj moje tvůj co kdo kde kdy jak proč ale nebo protože když jestli velmi už ještě jen také může musím chci mám má mají den dnes tady teď prosím děkuji čas všechno nic nikdy jsem jsi jste bych by aby není který která které svůj tak",
    "och i att det en ett som på är av för med till den de om har inte jag du han hon vi ni dem mig dig honom henne oss min mitt din sin vad vem var när hur varför men eller så kan ska skulle vill måste fick var varit vara blir mycket mer alla allt inget aldrig alltid nu idag här där tack bra också bara från vid efter under över än sig detta denna dessa hade gör göra någon något ut upp",
    "bir bu ve o da de için ile çok daha ne nasıl neden kim nerede ben sen biz siz onlar bana sana ona bizi beni seni benim senin onun bizim değil var yok mi mı mu mü musun misin mısın gibi kadar ama veya çünkü eğer her hiç şey şimdi bugün yarın burada orada olarak oldu olan olduğunu istiyorum lütfen teşekkür evet hayır iyi tom bunu şu en ki sonra önce biri yapmak gerçekten nin",
];

/// What one word says: its languages, as bits.
static BY_WORD: LazyLock<HashMap<&'static str, u16>> = LazyLock::new(|| {
    let mut by_word: HashMap<&'static str, u16> = HashMap::new();
    for (language, words) in WORDS.iter().enumerate() {
        for word in words.split_whitespace() {
            *by_word.entry(word).or_default() |= 1 << language;
        }
    }
    by_word
});

/// Endings of longer words that a language is fond of.
const ENDINGS: [&[&str]; 11] = [
    &[
        "ung", "ungen", "keit", "heit", "lich", "isch", "schaft", "ieren", "iert", "chen", "tze",
        "eln", "ssen", "tte", "ige", "ger", "nde",
    ],
    &[
        "ing", "tion", "ness", "ment", "ful", "ous", "ated", "ould", "ght", "ally", "ies", "ed",
        "th", "ly",
    ],
    &["eux", "euse", "aient", "ait", "ment", "ez", "ique", "ons", "eur", "elle"],
    &["ción", "ando", "iendo", "aba", "idad", "mente", "ado", "ido", "amos", "ar"],
    &["zione", "are", "ere", "ato", "ato", "mente", "ando", "ità", "ino", "amo", "etto"],
    &["ção", "ções", "ando", "mente", "ado", "inho", "dade", "ava", "eiro"],
    &["ijk", "lijk", "heid", "sche", "aan", "oor", "eeft", "aar", "tje", "ijn"],
    &["ość", "cie", "nie", "ego", "ach", "ów", "łem", "łam", "asz", "esz", "owa"],
    &["ost", "ání", "ení", "ého", "ých", "ím", "ová", "ala", "uje", "tí"],
    &["ning", "het", "lig", "ade", "arna", "erna", "isk", "ar", "skt", "ett"],
    &[
        "lar", "ler", "yor", "mek", "mak", "dir", "dır", "miş", "mış", "ki", "iyor", "dan", "den",
        "nda",
    ],
];

/// Letters that speak for languages, as bits in the order of [`LANGUAGES`].
fn letter_languages(c: char) -> (u16, f32) {
    const DE: u16 = 1;
    const FR: u16 = 1 << 2;
    const ES: u16 = 1 << 3;
    const IT: u16 = 1 << 4;
    const PT: u16 = 1 << 5;
    const NL: u16 = 1 << 6;
    const PL: u16 = 1 << 7;
    const CS: u16 = 1 << 8;
    const SV: u16 = 1 << 9;
    const TR: u16 = 1 << 10;
    match c {
        'ß' => (DE, 2.5),
        'ä' => (DE | SV, 1.0),
        'ö' => (DE | SV | TR, 0.8),
        'ü' => (DE | TR, 1.0),
        'å' => (SV, 2.0),
        'ñ' | '¿' | '¡' => (ES, 2.5),
        'ã' | 'õ' => (PT, 2.5),
        'ł' | 'ż' | 'ź' | 'ś' | 'ć' | 'ń' | 'ą' | 'ę' => (PL, 2.0),
        'ř' | 'ě' | 'ů' | 'š' | 'č' | 'ž' | 'ý' | 'ď' | 'ť' => (CS, 1.5),
        'ı' | 'ş' | 'ğ' => (TR, 2.0),
        'ç' => (FR | PT | TR, 0.7),
        'œ' | 'û' | 'î' | 'ê' | 'ë' | 'â' => (FR | PT | NL, 0.7),
        'è' => (FR | IT, 0.9),
        'à' => (FR | IT | PT, 0.7),
        'ì' | 'ò' => (IT, 1.5),
        'ù' => (IT | FR, 0.8),
        'á' | 'í' => (ES | PT | CS, 0.6),
        'ó' => (ES | PT | PL, 0.6),
        'ú' => (ES | PT | CS, 0.6),
        'é' => (FR | ES | PT | CS | IT, 0.4),
        'ô' => (PT | FR, 0.6),
        _ => (0, 0.0),
    }
}

/// How much of a long text is read; a language shows at once.
const READ_BYTES: usize = 1_500;

/// ISO 639-1 of the language, `und` where it cannot be told. `hints` speaks for German and
/// English: how many phrases of each were found.
pub(super) fn detect(lower: &str, hints: (f32, f32)) -> &'static str {
    let mut end = READ_BYTES.min(lower.len());
    while !lower.is_char_boundary(end) {
        end -= 1;
    }
    let text = &lower[..end];
    if let Some(language) = by_script(text) {
        return language;
    }
    let mut scores = [0.0_f32; 11];
    for word in text.split(|c: char| !c.is_alphabetic() && c != '\'' && c != '’') {
        score_word(word, &mut scores);
    }
    for c in text.chars().filter(|c| !c.is_ascii()) {
        let (languages, weight) = letter_languages(c);
        add(&mut scores, languages, weight.min(1.5));
    }
    scores[0] += 0.6 * hints.0;
    scores[1] += 0.6 * hints.1;
    best(&scores)
}

fn score_word(word: &str, scores: &mut [f32; 11]) {
    if word.is_empty() {
        return;
    }
    if let Some(languages) = BY_WORD.get(word) {
        add(scores, *languages, 1.6 / languages.count_ones() as f32);
        return;
    }
    if word.len() < 5 {
        return;
    }
    for (language, endings) in ENDINGS.iter().enumerate() {
        if endings.iter().any(|ending| word.ends_with(ending)) {
            scores[language] += 0.3;
        }
    }
    if word.contains("sch") {
        scores[0] += 0.2;
    }
}

fn add(scores: &mut [f32; 11], languages: u16, weight: f32) {
    for (language, score) in scores.iter_mut().enumerate() {
        if languages & (1 << language) != 0 {
            *score += weight;
        }
    }
}

fn best(scores: &[f32; 11]) -> &'static str {
    let mut best = 0;
    for (language, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = language;
        }
    }
    let second = scores
        .iter()
        .enumerate()
        .filter(|(language, _)| *language != best)
        .map(|(_, score)| *score)
        .fold(0.0, f32::max);
    // One ambiguous ending is no language.
    if scores[best] < 0.3 || scores[best] - second < 0.05 { "und" } else { LANGUAGES[best] }
}

/// Languages that their script gives away.
pub(super) fn by_script(text: &str) -> Option<&'static str> {
    const SCRIPTS: [&str; 9] = ["ru", "el", "ar", "he", "hi", "th", "ja", "ko", "zh"];
    let mut counts = [0_usize; 9];
    let mut letters = 0_usize;
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        let script = match u32::from(c) {
            0x400..=0x52f => 0,
            0x370..=0x3ff => 1,
            0x600..=0x6ff => 2,
            0x590..=0x5ff => 3,
            0x900..=0x97f => 4,
            0xe00..=0xe7f => 5,
            0x3040..=0x30ff => 6,
            0xac00..=0xd7af => 7,
            0x4e00..=0x9fff => 8,
            _ => continue,
        };
        counts[script] += 1;
    }
    // Kana among the characters is Japanese.
    if counts[6] > 0 && counts[8] > 0 {
        counts[6] += counts[8];
    }
    let most = (0..9).max_by_key(|script| counts[*script])?;
    if letters == 0 || counts[most] * 2 < letters {
        return None;
    }
    if most == 0 && text.chars().any(|c| matches!(c, 'і' | 'ї' | 'є' | 'ґ')) {
        return Some("uk");
    }
    Some(SCRIPTS[most])
}
