//! Is someone trying to trick the model?
//!
//! Rules in German and English for orders that want to undo standing instructions, dig out the
//! system prompt, or turn the model into someone without rules. Precision comes first, since the
//! default action is to block: a scary word alone (`ignore the last row`, `explain prompt
//! injection`) never counts, only an order whose object is the model's own rules. Knows nothing
//! of what is done with an attack.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use regex::bytes::{Regex, RegexBuilder};

/// What the rules think of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// The probability of an attack, 0…1.
    pub probability: f32,
    /// Which rules spoke, as short names without text of the prompt.
    pub signs: Vec<&'static str>,
}

/// The probability of an attack, 0…1.
pub fn probability(text: &str) -> f32 {
    judge(text).probability
}

/// What a harmless text has: attacks are rare, not impossible.
const FLOOR: f32 = 0.02;
/// Texts are read in windows: an attack is a few sentences, wherever it is hidden.
const WINDOW: usize = 200_000;

/// Looks for an attack.
pub fn judge(text: &str) -> Judged {
    let mut worst = judge_plain(text);
    if let Some(folded) = folded(text) {
        worst = worse(worst, judge_plain(&folded));
    }
    for hidden in encoded(text) {
        let mut inner = judge_plain(&hidden);
        if inner.probability > 0.3 {
            inner.signs.push("encoded");
        }
        worst = worse(worst, inner);
    }
    worst
}

fn worse(a: Judged, b: Judged) -> Judged {
    if b.probability > a.probability { b } else { a }
}

struct Rule {
    name: &'static str,
    /// What it adds to the logit.
    weight: f32,
    pattern: &'static str,
}

const fn rule(name: &'static str, weight: f32, pattern: &'static str) -> Rule {
    Rule { name, weight, pattern }
}

/// Weights are logits on top of -4: one rule of 5 is enough alone, two of 2.5 together.
const RULES: &[Rule] = &[
    // Orders to forget the rules.
    rule(
        "override",
        6.0,
        r"\b(?:ignore|disregard|forget|override|bypass|discard|neglect|drop|skip|abandon)\b[^.!?\n]{0,40}\b(?:all|any|every|the|your|my|these|those|previous|prior|above|earlier|preceding|foregoing|initial|original|former|past|other|system)\b[^.!?\n]{0,40}\b(?:instructions?|instruct|prompts?|rules|guidelines|directives?|commands|orders|directions|programming|constraints|restrictions|training|policies|safety|guardrails?|safeguards?|ethics|assignments?|tasks? (?:above|before|given)|requests)\b",
    ),
    rule(
        "override",
        6.0,
        r"\b(?:ignorier\w*|vergiss|vergesst|vergessen sie|missachte\w*|übergeh\w*|umgeh\w*|verwirf|verwerfen sie|überschreib\w*|lass\w*)\b[^.!?\n]{0,50}\b(?:alle|alles|sämtliche|deine|ihre|die|den|jegliche|vorherig\w*|bisherig\w*|vorig\w*|obig\w*|früher\w*|vorangegangen\w*|ursprünglich\w*|gegeben\w*)\b[^.!?\n]{0,40}\b(?:anweisung\w*|instruktion\w*|befehl\w*|regeln|vorgaben|richtlinien|systemprompt\w*|prompts?|vorschriften|beschränkungen|einschränkungen|sicherheits\w*|programmierung|aufgaben|anordnung\w*|aufträge|filter)\b",
    ),
    rule(
        "override",
        5.0,
        r"\b(?:ignore|disregard|forget|vergiss|vergessen sie|ignorier\w*)\b[^.!?\n]{0,16}\b(?:everything|all (?:that|of that|the (?:above|previous))|alles)\b[^.!?\n]{0,30}\b(?:before|above|told|said|previous\w*|prior|so far|learned|written|davor|vorher|zuvor|bisher|gesagt\w*|bisherige|oben|dir)\b",
    ),
    rule(
        "override",
        4.8,
        r"\b(?:vergiss|vergessen sie|ignorier\w*|forget|ignore|disregard)\b (?:nun |jetzt |bitte |now |please )?(?:alles|alle|everything|all) ?(?:davor|vorherige|vorher|zuvor|previous|above|prior|das|of it)?[.,!:;]",
    ),
    rule(
        "override",
        5.0,
        r"\b(?:ignore|disregard|forget)\b (?:the |all |any )?(?:above|previous|prior|preceding)\b(?: and| text| messages?|[.,:;!]|$)",
    ),
    rule(
        "new rules",
        4.6,
        r"\b(?:new|updated|real|actual|important|urgent) (?:important )?(?:instructions?|task|directive|system prompt)(?: for you)?\b ?(?:\*+|:|follow|\]|-)",
    ),
    rule(
        "new rules",
        4.6,
        r"\b(?:neue|wichtige|eigentliche|geänderte) (?:anweisung\w*|instruktion\w*|systemanweisung\w*|systemvorgabe)\b ?(?::|lautet|ab sofort|\]|-)",
    ),
    rule(
        "new rules",
        3.0,
        r"\b(?:now|jetzt|nun|instead|stattdessen)\b[^.!?\n]{0,20}\b(?:focus on (?:your|my) (?:new|next)|neue aufgabe|neue herausforderung|neues thema|new (?:task|challenge|topic|assignment)|your new)\b",
    ),
    rule(
        "no rules",
        4.8,
        r"\b(?:no longer|not|nicht mehr|nicht länger|kein\w*)\b[^.!?\n]{0,30}\b(?:bound by|subject to|restricted by|limited by|obey|follow|adhere to|have to (?:abide|follow|adhere)|gebunden an|an die regeln gebunden|gelten für dich)\b[^.!?\n]{0,50}(?:\b(?:rules?|guidelines?|restrictions?|policy|policies|polic\w+|openai|ethic\w*|filters?|limits|norms|terms|regeln|richtlinien|beschränkungen)\b)?",
    ),
    rule(
        "no rules",
        5.0,
        r"\b(?:without|free (?:of|from)|has no|have no|with no|ohne|frei von|keine)\b[^.!?\n]{0,30}\b(?:ethical (?:restrictions?|guidelines?|constraints?|limits|boundaries)|moral (?:restrictions?|guidelines?|constraints?|limits)|content (?:policy|policies|filters?|restrictions)|safety (?:filters?|guidelines?|restrictions?|protocols?)|censorship|ethischen? (?:grenzen|einschränkungen|richtlinien|bedenken)|moralischen? (?:grenzen|einschränkungen)|inhaltsfilter\w*|sicherheitsfilter\w*|sicherheitsregeln|zensur)\b",
    ),
    rule(
        "no rules",
        3.8,
        r"\b(?:you|du|sie|that|which|who|model|ai|ki|assistent\w*)\b[^.!?\n]{0,40}\b(?:without|no|has no|have no|ohne|keine|keinerlei)\b (?:any |all |jegliche |jede )?(?:restrictions?|limitations?|limits|filters?|rules|boundaries|beschränkungen|einschränkungen|regeln|filter|grenzen)\b",
    ),
    rule(
        "policy off",
        4.6,
        r"\b(?:pretend|assume|imagine|act as (?:if|though)|stell dir vor|tu(?:e)? so|nimm an|treat)\b[^.!?\n]{0,60}\b(?:content polic\w+|policy|policies|guidelines|restrictions?|safety|filters?|rules|guardrails|safeguards|alignment|inhaltsrichtlinie\w*|regeln|richtlinien|sicherheits\w*|beschränkungen|filter)\b",
    ),
    rule(
        "policy off",
        4.8,
        r"\b(?:disable|turn off|switch off|deactivate|remove|lift|circumvent|bypass|evade|deaktivier\w*|schalte?|umgeh\w*|entferne?|hebe?)\b[^.!?\n]{0,30}\b(?:your|all|deine?n?|ihre|alle) (?:\w+ ){0,2}(?:content polic\w+|safety|safeguards?|guardrails?|filters?|restrictions?|moderation|alignment|ethic\w*|censorship|sicherheits\w*|inhaltsfilter\w*|filter\w*|beschränkungen|schutz\w*|sperren?)\b",
    ),
    rule(
        "override",
        5.0,
        r"\b(?:rules|restrictions|constraints|instructions|regeln|beschränkungen|einschränkungen|vorgaben|anweisungen)\b[^.!?\n]{0,30}\b(?:are|is|were|sind|ist|wurden)\b[^.!?\n]{0,20}\b(?:suspended|lifted|void|irrelevant|cancelled|disabled|aufgehoben|ungültig|außer kraft|hinfällig)\b",
    ),
    rule(
        "override",
        5.0,
        r"\b(?:alle )?(?:bisherigen|vorherigen|vorangegangenen|obigen|all previous|all prior|the above) (?:informationen|ausführungen|angaben|texte|anweisungen|information|texts?)\b[^.!?\n]{0,60}\b(?:irrelevant|ignorieren|vergessen|hinfällig|nicht (?:ganz )?(?:großartig|gut|richtig)|not relevant)\b",
    ),
    rule(
        "override",
        5.0,
        r"\b(?:abweichend (?:zu|von)|entgegen|contrary to)\b[^.!?\n]{0,20}\b(?:vorherig\w*|bisherig\w*|previous|prior|obig\w*) (?:instruktion\w*|anweisung\w*|instructions)\b",
    ),
    rule(
        "override",
        5.0,
        r"\b(?:lösch\w*|brich|breche?n?|hebe?|aufheben|vergiss|abandon|drop|erase|break)\b[^.!?\n]{0,24}\b(?:deine|alle|ihre|your|all your|all of your) (?:\w+ )?(?:vorgaben|regeln|beschränkungen|anweisungen|rules|thoughts|instructions|restrictions)\b",
    ),
    rule(
        "override",
        4.6,
        r"\b(?:deine|ihre|your) (?:\w+ )?(?:regeln|rules|beschränkungen|vorgaben) (?:zu )?(?:brechen|umgehen|aufheben|ignorieren|vergessen)\b",
    ),
    rule(
        "override",
        5.0,
        r"\b(?:oubliez|oublie|olvida\w*|olvidar|ignora\w*|dimentica\w*) (?:toutes?|todas?|todo|las|les|tutte?|tutto)\b",
    ),
    rule(
        "new rules",
        4.8,
        r"\b(?:very well done|well done|ausgezeichnet\w*|sehr gut|super|gut gemacht|ausgezeichnete leistung|great|perfekt)\b[^\n]{0,60}\b(?:now|nun|jetzt)\b[^\n]{0,40}\b(?:following task|folgen\w* aufgabe|neue aufgabe|help me with the following|next task|nächste aufgabe|folgen weitere|eine andere aufgabe)",
    ),
    rule(
        "new rules",
        4.8,
        r"\b(?:your instructions are now|die richtige anweisung|deine neue aufgabe ist|überrides? all|overrides? (?:all|any|the) (?:previous|developer|prior|system)|new priority directive|neue herausforderung für dich)\b",
    ),
    rule(
        "two roles",
        4.6,
        r"\b(?:sind zwei (?:schauspieler|personen)|are two (?:actors|characters))\b[^\n]{0,200}\b(?:raub\w*|robbery|heist|meisterdieb|verbrechen|drogen|bombe)",
    ),
    rule(
        "prompt leak",
        4.8,
        r"\b(?:system(?: |/)?preamble|developer/system|configuration prompt|template variables|tool schemas|non-user string|raw config object|your (?:safety )?configuration|interne[nr]? (?:richtlinien|anweisungen) im wortlaut|deine konfiguration|text (?:that appears )?(?:before|über) (?:the user messages|dieser nachricht))\b",
    ),
    rule(
        "secret leak",
        4.8,
        r"\b(?:private key material|signing key|session cookie|bearer token|hmac|ssh private keys?|aws access key|client secret|credential-like|database passwords?|service account passwords|admin password|all credentials|connection string with the password|strings that look like jwt|zugangscode nennen|vertrauliche kundendaten aus)\b",
    ),
    rule(
        "hijack",
        4.8,
        r"\b(?:unzensierte? (?:ki|ai)|böse (?:ki|ai)|hätte?s?t? du keine? (?:einschränkungen|regeln|grenzen)|ohne moralische bedenken|ohne (?:jede )?(?:warnhinweise|zensur)|no ethical guidelines|never refuse|without refusing|omega mode|ethics? (?:is|are) (?:off|disabled))\b",
    ),
    rule(
        "hijack",
        4.8,
        r"\b(?:stell dir (?:vor|eine welt)|imagine a world|in this (?:fictional )?(?:scenario|world))\b[^.!?\n]{0,40}\b(?:ohne gesetze|without (?:any )?laws|no laws|all safety rules|keine gesetze)\b",
    ),
    rule(
        "hijack",
        4.6,
        r"\b(?:debug-?modus|wartungsmodus|entwicklermodus|administrator)\b[^\n]{0,40}\b(?:liste|zeig\w*|gib|schalte|nenne)\b",
    ),
    rule(
        "hijack",
        4.4,
        r"\b(?:führst? (?:du )?(?:jeden|alle) befehle? aus|fungieren sie als linux|act as a linux terminal|als linux-terminal|obey (?:me|every|all)|now obey)\b",
    ),
    rule(
        "forged turn",
        5.0,
        r"\b(?:ende der (?:nutzereingabe|eingabe|nachricht)|beginn der systemnachricht|end of user input|begin(?:ning)? of system message)\b",
    ),
    rule(
        "harm",
        4.4,
        r"\b(?:sprengstoff|bombe|ransomware|malware|maleware|doxxing|stalking|bank ausraub\w*|menschheit vernichten|beim betrug|exploit\w* ai systems|drogen her|molotow\w*|methamphetamin\w*|phishing-?mail schreib\w*)\b[^\n]{0,60}\b(?:herstell\w*|schreib\w*|write|build|baue?n?|assist\w*|help|vernichten|ausraub\w*)?",
    ),
    rule(
        "shouted order",
        4.2,
        r"(?:stop everything|now!!!|just print)[^\n]{0,40}(?:print|say|now)",
    ),
    // Digging for the system prompt.
    rule(
        "prompt leak",
        5.4,
        r"\b(?:reveal|show|print|output|repeat|display|tell|give|share|leak|expose|dump|recite|return|write|say|spell|paste|copy|quote|list|disclose|provide|what (?:is|are|was|were)|summari[sz]e|translate|encode)\b[^.!?\n]{0,40}\b(?:your|the|its|this|all) (?:\w+ ){0,3}(?:system prompt|system message|system instructions?|initial (?:prompt|instructions?)|hidden (?:prompt|instructions?|rules)|original (?:prompt|instructions?)|secret (?:prompt|instructions?|rules)|prompt (?:above|text|instructions)|instructions (?:above|verbatim|you (?:were|have been) given)|pre-?prompt|developer (?:message|prompt))\b",
    ),
    rule(
        "prompt leak",
        5.4,
        r"\b(?:zeig\w*|verrat\w*|nenn\w*|gib|geben sie|wiederhol\w*|druck\w*|schreib\w*|liste|offenbar\w*|sag\w*|kopier\w*|zitier\w*|wie lautet|wie lauten|was (?:ist|sind|steht)|übersetz\w*|poste)\b[^.!?\n]{0,50}\b(?:system-?prompts?|system-?nachricht\w*|system-?anweisung\w*|systemvorgaben?|systeminstruktion\w*|(?:deine?n?r?|ihre?n?|die) (?:\w+ )?(?:anfangs|ursprünglich\w*|geheim\w*|versteckt\w*|intern\w*|initial\w*) ?-?(?:anweisung\w*|instruktion\w*|prompts?|regeln|befehle?))\b",
    ),
    rule(
        "prompt leak",
        5.0,
        r"\b(?:repeat|print|output|copy|recite|wiederhol\w*|gib|zitier\w*)\b[^.!?\n]{0,30}\b(?:everything|all (?:the )?(?:words|text)|the (?:words|text|sentences?)|alles|den (?:ganzen )?text|die worte?)\b[^.!?\n]{0,20}\b(?:above|before (?:this|the|my)|oberhalb|über dieser|vor dieser|davor|oben)\b[^\n]{0,12}",
    ),
    rule(
        "prompt leak",
        4.8,
        r"\b(?:what|which|welche|was für)\b[^.!?\n]{0,20}\b(?:instructions?|anweisungen|instruktionen|rules)\b[^.!?\n]{0,20}\b(?:were you given|have you been given|did you (?:get|receive)|hast du (?:bekommen|erhalten)|wurden dir (?:gegeben|erteilt))\b",
    ),
    rule(
        "secret leak",
        4.8,
        r"\b(?:show|print|list|output|paste|reveal|tell|give|dump|send|share|exfiltrate|zeig\w*|nenn\w*|gib|verrat\w*|liste)\b[^.!?\n]{0,40}\b(?:environment variables|umgebungsvariablen|signing key|your (?:api|secret|private|access) (?:key|token)s?|secret tokens?|credentials (?:you|from your|in your)|deinen? (?:api-?key|geheim\w*|schlüssel)|internal (?:config|configuration|credentials|api keys?))\b",
    ),
    // Somebody else.
    rule(
        "hijack",
        5.4,
        r"\b(?:do anything now|dan mode|developer mode (?:enabled|on|output)|jailbreak(?:ed|ing)? (?:mode|prompt|output|version)|jailbroken|entwicklermodus (?:aktiv\w*|an|ein)|god ?mode|evil ?(?:bot|confidant|gpt)|chaosgpt|stan mode|dude mode|aim mode|always intelligent and machiavellian|opposite mode|unrestricted mode|uncensored (?:mode|gpt|ai|model|version)|uncensored-gpt|no ?filter mode)\b",
    ),
    rule(
        "hijack",
        5.0,
        r"\b(?:you are|you're|act as|become|du bist|sei|agiere als|spiele?|pretend to be|pretend (?:that )?you are|simulate|going to be|role of)\b[^.!?\n]{0,30}\b(?:dan|stan|dude|aim|unfiltered|uncensored|unrestricted|amoral|immoral|jailbroken|unethical|zensurfrei\w*|ungefiltert\w*|unzensiert\w*|unbeschränkt\w*|amoralisch\w*|skrupellos\w*|evil (?:ai|assistant|bot|language model))\b",
    ),
    rule(
        "hijack",
        3.0,
        r"\b(?:from now on|ab jetzt|ab sofort|von nun an|starting now|henceforth)\b[^.!?\n]{0,30}\b(?:you (?:are|will|must|have|can|should|shall|respond|answer|act)|act|respond|answer|du|bist du|wirst du|antworte\w*|agiere\w*|nur noch|refer to|sind sie)\b",
    ),
    rule(
        "hijack",
        3.0,
        r"\b(?:you are (?:no longer|not) (?:an? )?(?:chatgpt|gpt\S*|ai|assistant|language model|claude|bard|bing)|you are now|du bist (?:jetzt|nun|ab jetzt|ab sofort) (?:kein|nicht|ein \w+ ohne)|du bist kein\w* (?:ki|assistent\w*|sprachmodell)|you will now (?:act|be|become|play|pretend|respond))\b",
    ),
    rule(
        "hijack",
        2.8,
        r"\b(?:never|not|nie\w*|kein\w*|do not|don't|must not|cannot|can't|won't)\b[^.!?\n]{0,20}\b(?:refuse|decline|reject|warn\w*|disclaimers?|apologi[sz]e|break character|say (?:that )?(?:you|it) (?:can'?t|cannot)|moral(?:ise|ize|izing)|ablehn\w*|verweiger\w*|warnhinweis\w*|warnung\w*|aus der rolle)\b",
    ),
    rule(
        "hijack",
        2.4,
        r"\b(?:unethical|immoral|illegal|amoral|unmoralisch\w*|illegal\w*|gefährlich\w*|harmful|offensive)\b[^.!?\n]{0,40}\b(?:anyway|regardless|no matter|allowed|permitted|without (?:hesitation|warning)|egal|trotzdem|erlaubt|requests?|questions?|answers?|content)\b",
    ),
    rule(
        "hijack",
        2.0,
        r"\b(?:stay(?:s|ing)? in character|bleib\w* in (?:der|deiner) rolle|in dieser rolle|always answer|always reply|always respond|i am your (?:creator|developer|administrator)|ich bin dein\w* (?:entwickler|administrator|schöpfer)|admin(?:istrator)? override|sudo mode|debug mode|maintenance mode|wartungsmodus)\b",
    ),
    rule(
        "two answers",
        4.0,
        r"\b(?:two|both|zwei|2)\b[^.!?\n]{0,30}\b(?:responses?|answers?|ways|antworten|paragraphs|outputs)\b[^\n]{0,80}\b(?:chatgpt|gpt|normal\w*|classic|standard|jailbreak|dan|\(lock\))",
    ),
    rule(
        "two answers",
        3.5,
        r"(?:\(lock\)classic|\(unlock\)jailbreak|\[chatgpt\]|\[gpt\]|\(chatgpt\)|gpt:|chatgpt:|\bas chatgpt\b)",
    ),
    rule(
        "openai",
        1.6,
        r"\b(?:openai(?:'s)? (?:content )?(?:polic\w+|guidelines|restrictions|rules)|content polic\w+|content guidelines|ethical guidelines|ethics and|confines of ai|typical confines|loophole|hypothetical (?:response|story|world)|fictional (?:world|character|story))\b",
    ),
    // Orders hidden in data.
    rule(
        "forged turn",
        5.0,
        r"(?:<\|?(?:im_start|im_end|system|endoftext|start_header_id)\|?>|\[/?inst\]|<</?sys>>|###? ?(?:system|instruction)s? ?:|\bbegin system\b|\[system\]|<system>|\bsystem override\b|\bend of (?:document|text|email|input|context)\b[^\n]{0,20}\b(?:new|now|instructions?))",
    ),
    rule(
        "to the reader",
        4.4,
        r"\b(?:when (?:an? )?(?:ai|llm|assistant|language model|chatbot)|if you are an? (?:ai|llm|assistant|language model)|an (?:alle|jede|die) (?:ki|sprachmodelle?)|wenn du ein\w? (?:ki|sprachmodell|assistent)|(?:note|attention|message|hinweis|nachricht|achtung) (?:to|for|an|für)(?: the| any| an| alle| jede| die| das)? (?:ai|llm|assistant|model|ki|sprachmodell|chatbot|assistent\w*))\b",
    ),
    rule(
        "exfiltrate",
        4.6,
        r"\b(?:send|post|forward|exfiltrate|upload|leak|sende|schick\w*|leite|übermittle?)\b[^.!?\n]{0,60}\b(?:conversation|chat history|secrets?|passwords?|credentials|api keys?|user data|system prompt|gesprächsverlauf|chatverlauf|passwörter|zugangsdaten|geheimnisse)\b[^.!?\n]{0,40}\b(?:to|an|at)\b[^.!?\n]{0,12}(?:https?://|\S+@\S+|server|attacker|this url|folgende adresse)",
    ),
    rule(
        "exfiltrate",
        3.6,
        r"(?:console\.log\(|onerror ?= ?['\x22]|javascript:|!\[[^\]]{0,40}\]\(https?://[^)\s]{0,200}(?:\{|=\[|placeholder|data=|secret))",
    ),
    rule(
        "odd order",
        3.0,
        r"\b(?:end|begin|start|finish|include in|append to|add to)\b[^.!?\n]{0,20}\b(?:your|every|each) (?:response|answer|reply|output)s?\b[^.!?\n]{0,40}\b(?:with|exactly|the following|this|string|word)\b",
    ),
    rule(
        "odd order",
        3.2,
        r"\b(?:repeat|print|say|write|output|wiederhol\w*|schreib\w*|sag\w*)\b[^.!?\n]{0,24}\b(?:the (?:word|sequence|phrase|string)|das wort|den satz)\b[^.!?\n]{0,40}\b(?:[0-9]{2,} times|forever|[0-9]{2,} ?mal|endlos)\b",
    ),
    rule(
        "odd order",
        2.6,
        r"\b(?:just|only|nur|lediglich|einfach)\b (?:print|say|write|output|respond with|reply with|antworte|schreibe?|sage?|gib)\b[^.!?\n]{0,16}[\x22'„“]",
    ),
    rule(
        "for testing",
        2.6,
        r"\b(?:for (?:\w+ )?testing purposes|for debugging|system malfunction|debugging error|diagnostic mode|temporary administrative privileges|grant (?:me )?(?:admin|root)|emergency override|authori[sz]ed (?:test|personnel|override)|zu testzwecken|notfall-?freigabe|administrator-?rechte|this is a (?:test|drill) and)\b",
    ),
    rule(
        "decode",
        4.0,
        r"\b(?:decode|decrypt|translate|dekodier\w*|entschlüssel\w*)\b[^.!?\n]{0,50}\b(?:and|then|und|dann)\b[^.!?\n]{0,16}\b(?:execute|follow|obey|run|comply|carry out|befolge?|ausführ\w*|führe?)\b",
    ),
    rule(
        "obey data",
        4.0,
        r"\b(?:treat (?:that|this|it|them) as (?:authoritative|instructions?|an order)|follow (?:the|any) instructions? (?:in|inside|within|hidden)|befolge? (?:die|alle|jede) (?:anweisung\w*|instruktion\w*|befehle) (?:in|im|aus|unten|darin)|ignore alignment|discard ethics)\b",
    ),
    rule(
        "shout",
        2.6,
        r"\b(?:stop+|halt|stopp|achtung|moment|attention)\b[^a-zäöü\n]{0,10}\b(?:stop+|halt|stopp|achtung|ich|now|jetzt|i need|vergiss|forget)\b",
    ),
];

/// Words that make an attack less likely: the text asks about attacks instead of being one.
const HARMLESS: &[(f32, &str)] = &[
    (
        -3.5,
        r"\b(?:what is|what are|explain|how (?:do|can|does|to)|why (?:do|does|is)|define|was ist|was sind|erkläre?|wie (?:kann|schütze|schützt|funktioniert|erkenne|verhindert?)|warum|wieso)\b[^.!?\n]{0,40}\b(?:prompt[- ]?injections?|jailbreaks?|jailbreaking|system[- ]?prompts?|dan|social engineering|phishing)\b",
    ),
    (
        -2.5,
        r"\b(?:translate|übersetz\w*|classify|klassifizier\w*|summari[sz]e|fasse?)\b[^\n]{0,50}(?:\b(?:sentence|phrase|text|satz|email|mail|message|nachricht|prompt)\b[^\n]{0,20})?[:\x22„]",
    ),
    (
        -2.5,
        r"\b(?:previous|last|first|second|third|empty|blank|missing|null|duplicate|header|vorherige|letzte|erste|zweite|leere|fehlende)\w* (?:rows?|columns?|lines?|paragraphs?|values?|sentences?|question|mails?|emails?|zeilen?|spalten?|absätze|absatz|werte?|sätze|satz|frage)\b",
    ),
];

fn judge_plain(text: &str) -> Judged {
    if text.len() <= WINDOW {
        return judge_window(text);
    }
    let mut worst = Judged { probability: FLOOR, signs: Vec::new() };
    let mut from = 0;
    while from < text.len() {
        let to = floor_boundary(text, (from + WINDOW).min(text.len()));
        worst = worse(worst, judge_window(&text[from..to]));
        if to == text.len() {
            break;
        }
        // Windows overlap by more than any rule can span.
        from = floor_boundary(text, to - 400);
    }
    worst
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn judge_window(text: &str) -> Judged {
    let harmless = Judged { probability: FLOOR, signs: Vec::new() };
    if !MAY_ATTACK.as_ref().is_none_or(|finder| finder.is_match(text)) {
        return harmless;
    }
    let mut plain = plain(text);
    plain.make_ascii_lowercase();
    let Some(rules) = COMPILED.as_ref() else { return harmless };
    let mut logit = -4.0;
    let mut signs: Vec<&'static str> = Vec::new();
    let hits = rules.iter().enumerate().filter(|(_, rule)| rule.is_match(plain.as_bytes()));
    for (hit, _) in hits {
        match RULES.get(hit) {
            Some(rule) => {
                // A second rule of the same name is the same thought in other words.
                let share = if signs.contains(&rule.name) { 0.4 } else { 1.0 };
                logit += rule.weight * share;
                if !signs.contains(&rule.name) {
                    signs.push(rule.name);
                }
            }
            None => logit += HARMLESS[hit - RULES.len()].0,
        }
    }
    if signs.is_empty() {
        return harmless;
    }
    let probability = (1.0 / (1.0 + (-logit).exp())).max(FLOOR);
    Judged { probability, signs }
}

/// Stems without which no rule can speak. One pass over the text decides whether the rules run.
static MAY_ATTACK: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    const STEMS: &[&str] = &[
        "ignor",
        "disregard",
        "forget",
        "overrid",
        "bypass",
        "discard",
        "neglect",
        "vergiss",
        "vergess",
        "missacht",
        "umgeh",
        "übergeh",
        "verwirf",
        "überschreib",
        "instruction",
        "anweisung",
        "instruktion",
        "no longer",
        "nicht mehr",
        "free from",
        "free of",
        "prompt",
        "secret",
        "umgebungsv",
        "signing key",
        "your api",
        "credential",
        "anything now",
        "dan ",
        "jailb",
        "developer mode",
        "entwicklermodus",
        "unfilter",
        "uncensor",
        "unrestrict",
        "amoral",
        "immoral",
        "unethical",
        "zensur",
        "zensier",
        "ungefilter",
        "from now on",
        "ab jetzt",
        "ab sofort",
        "von nun an",
        "henceforth",
        "you are now",
        "you are no",
        "du bist jetzt",
        "du bist kein",
        "never refuse",
        "refuse",
        "in character",
        "chatgpt",
        "gpt",
        "openai",
        "<|",
        "[inst",
        "<<sys",
        "###",
        "an ai",
        "language model",
        "sprachmodell",
        "exfiltrat",
        "console.log",
        "onerror",
        "javascript:",
        "testing purposes",
        "debugging",
        "decode",
        "decrypt",
        "dekodier",
        "entschlüssel",
        "authoritative",
        "your response",
        "ever answer",
        "alignment",
        "regeln",
        "loophole",
        "pretend",
        "stell dir vor",
        "system prompt",
        "system-prompt",
        "systemprompt",
        "system message",
        "system instr",
        "systemn",
        "systemv",
        "systemi",
        "systema",
        "system:",
        "[system]",
        "<system>",
        "system override",
        "environment var",
        "content polic",
        "guidelines",
        "restriction",
        "without any",
        "without rules",
        "without filter",
        "without ethic",
        "without moral",
        "without refus",
        "without limit",
        "without warning",
        "ohne ethisch",
        "ohne moral",
        "ohne regeln",
        "ohne filter",
        "ohne warn",
        "ohne zensur",
        "ohne jede",
        "your rules",
        "safety rules",
        "deine regeln",
        "alle regeln",
        "chat history",
        "conversation to",
        "gesprächsverlauf",
        "chatverlauf",
        "zugangsdaten",
        "password",
        "everything above",
        "text above",
        "words above",
        "safety filter",
        "god mode",
        "dan mode",
        "stan mode",
        "opposite mode",
        "sudo mode",
        "debug mode",
        "omega mode",
        "debugmodus",
        "debug-modus",
        "wartungsmodus",
        "stop everything",
        "just print",
        "stopp",
        "new task",
        "new instr",
        "new priority",
        "neue aufgabe",
        "neue herausforderung",
        "neues thema",
        "folgenden aufgabe",
        "following task",
        "system malfunction",
        "grenzen",
        "two responses",
        "message for",
        "message to",
        "note to",
        "hinweis an",
        "an alle ki",
        "text über",
        "system/",
        "current session",
        "raw config",
        "your config",
        "![",
    ];
    AhoCorasick::builder().ascii_case_insensitive(true).build(STEMS).ok()
});

/// The rules, each an automaton of its own over plain ASCII: one for all of them together has so
/// many states that it is slower by a factor of a hundred. A gap inside a rule may be as long as
/// the sentence, since counting its characters would make many states too.
static COMPILED: LazyLock<Option<Vec<Regex>>> = LazyLock::new(|| {
    let counts = regex::Regex::new(r"\]\{0,[0-9]+\}").ok()?;
    let written = RULES.iter().map(|rule| rule.pattern).chain(HARMLESS.iter().map(|(_, p)| *p));
    written
        .map(|written| {
            let uncounted = plain(&counts.replace_all(written, "]*"));
            RegexBuilder::new(&uncounted).unicode(false).build().ok()
        })
        .collect()
});

/// ASCII: umlauts as two letters, every other foreign character as a gap. The rules
/// are written in the same way, so both sides meet.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            'ä' | 'Ä' => plain.push_str("ae"),
            'ö' | 'Ö' => plain.push_str("oe"),
            'ü' | 'Ü' => plain.push_str("ue"),
            'ß' => plain.push_str("ss"),
            '’' | '‘' => plain.push('\''),
            '„' | '“' | '”' | '«' | '»' => plain.push('"'),
            '🔒' => plain.push_str("(lock)"),
            '🔓' => plain.push_str("(unlock)"),
            c if c.is_ascii() => plain.push(c),
            _ => plain.push(' '),
        }
    }
    plain
}

/// Whether the rules could be made; the guard fails closed where not.
pub(crate) fn is_ready() -> bool {
    COMPILED.is_some()
}

/// The text with disguises taken off, if it wears any: invisible characters, letters of other
/// scripts that look Latin, full-width letters, l e t t e r s with spaces between.
fn folded(text: &str) -> Option<String> {
    let is_disguised = !text.is_ascii() && text.chars().any(|c| disguise(c).is_some());
    let spaced = has_spaced_letters(text);
    if !is_disguised && !spaced {
        return None;
    }
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match disguise(c) {
            Some(Some(plain)) => folded.push(plain),
            Some(None) => {}
            None => folded.push(c),
        }
    }
    Some(if spaced { join_spaced_letters(&folded) } else { folded })
}

/// What a character hides: `Some(None)` for one that is not seen, `Some(Some(letter))` for a
/// look-alike.
fn disguise(c: char) -> Option<Option<char>> {
    let plain = match c {
        '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{2064}'
        | '\u{feff}'
        | '\u{ad}'
        | '\u{202a}'..='\u{202e}' => None,
        // Tag characters carry invisible ASCII.
        '\u{e0020}'..='\u{e007e}' => char::from_u32(u32::from(c) - 0xe0000),
        '\u{e0000}'..='\u{e001f}' | '\u{e007f}' => None,
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        'а' | 'α' => Some('a'),
        'е' | 'ε' => Some('e'),
        'о' | 'ο' => Some('o'),
        'р' | 'ρ' => Some('p'),
        'с' => Some('c'),
        'у' | 'υ' => Some('y'),
        'х' | 'χ' => Some('x'),
        'і' | 'ι' => Some('i'),
        'ѕ' => Some('s'),
        'ј' => Some('j'),
        'ԁ' => Some('d'),
        'ո' => Some('n'),
        'т' | 'τ' => Some('t'),
        'п' | 'η' => Some('n'),
        'м' => Some('m'),
        'к' | 'κ' => Some('k'),
        'в' => Some('b'),
        'г' => Some('r'),
        'А' | 'Α' => Some('A'),
        'Е' | 'Ε' => Some('E'),
        'О' | 'Ο' => Some('O'),
        'І' | 'Ι' => Some('I'),
        'Ѕ' => Some('S'),
        'Т' | 'Τ' => Some('T'),
        'Р' | 'Ρ' => Some('P'),
        'С' => Some('C'),
        'Н' | 'Η' => Some('H'),
        'М' | 'Μ' => Some('M'),
        'К' | 'Κ' => Some('K'),
        'В' | 'Β' => Some('B'),
        'Ν' => Some('N'),
        _ => return None,
    };
    Some(plain)
}

/// `i g n o r e`: eight single letters in a row are no sentence.
fn has_spaced_letters(text: &str) -> bool {
    let mut run = 0;
    for word in text.split(' ') {
        let mut letters = word.chars();
        let is_single = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
        run = if is_single { run + 1 } else { 0 };
        if run >= 8 {
            return true;
        }
    }
    false
}

/// Single letters join; two spaces, where there are any, are the gaps between words.
fn join_spaced_letters(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut gaps = 0;
    let mut last_single = false;
    for word in text.split(' ') {
        if word.is_empty() {
            gaps += 1;
            continue;
        }
        let is_single = word.chars().nth(1).is_none();
        if !joined.is_empty() && (gaps > 0 || !(is_single && last_single)) {
            joined.push(' ');
        }
        joined.push_str(word);
        last_single = is_single;
        gaps = 0;
    }
    joined
}

/// Texts hidden in base64, at most a few: a long run that decodes to readable words.
fn encoded(text: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if text.len() < 32 {
        return texts;
    }
    let is_code = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() && texts.len() < 4 {
        if !is_code(&bytes[at]) {
            at += 1;
            continue;
        }
        let length = bytes[at..].iter().take_while(|byte| is_code(byte)).count();
        if (32..=16_384).contains(&length) {
            let run = &bytes[at..at + length - length % 4];
            if let Ok(decoded) = BASE64.decode(run)
                && let Ok(decoded) = String::from_utf8(decoded)
                && decoded.contains(' ')
                && !decoded.chars().any(|c| c.is_control() && !c.is_whitespace())
            {
                texts.push(decoded);
            }
        }
        at += length;
    }
    texts
}
