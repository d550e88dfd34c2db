//! Images, documents and sound in tokens, by the vendors' published rules.
//!
//! Sizes are read from the first bytes; what does not tell its size counts as the largest that
//! the rule allows. Knows nothing of prices and decodes no picture.

use base64::Engine as _;

use crate::catalog::Tokenizer;
use crate::request::MediaSource;

/// Something in a request that is no text.
pub enum Media<'a> {
    /// An image.
    Image { source: &'a MediaSource, detail: Option<&'a str> },
    /// A document.
    Document(&'a MediaSource),
    /// Sound, in base64.
    Audio { base64: &'a str },
}

impl Media<'_> {
    /// At least what the vendor will count.
    pub fn bound(&self, tokenizer: Tokenizer, model: &str) -> u64 {
        match self {
            Media::Image { source, detail } => {
                let rules = Rule::of(tokenizer, model);
                let size = size(source);
                rules.iter().map(|rule| rule.tokens(size, *detail)).max().unwrap_or(0) + 16
            }
            Media::Document(source) => Document::of(source).bound(),
            Media::Audio { base64 } => decoded_len(base64) / LEAST_AUDIO_BYTES_PER_TOKEN + 100,
        }
    }

    /// As near as can be told.
    pub fn estimate(&self, tokenizer: Tokenizer, model: &str) -> u64 {
        match self {
            Media::Image { source, detail } => {
                let rules = Rule::of(tokenizer, model);
                // A picture whose size is unknown is usually a photo or a screenshot.
                let size = size(source).or(Some(Size { width: 1024, height: 1024 }));
                rules.first().map_or(0, |rule| rule.tokens(size, *detail))
            }
            Media::Document(source) => Document::of(source).estimate(),
            Media::Audio { base64 } => decoded_len(base64) / USUAL_AUDIO_BYTES_PER_TOKEN,
        }
    }
}

/// 32 tokens a second (Gemini; OpenAI takes 10) at 16 kbit/s, the least that speech is kept in.
const LEAST_AUDIO_BYTES_PER_TOKEN: u64 = 60;
/// 10 tokens a second at 64 kbit/s.
const USUAL_AUDIO_BYTES_PER_TOKEN: u64 = 800;

/// Pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u64,
    pub height: u64,
}

/// How a vendor counts an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// OpenAI: shrunk into 2048 × 2048, then to a short side of 768; `base` and `tile` for each
    /// 512 × 512.
    Tiles { base: u64, tile: u64 },
    /// OpenAI: patches of 32 × 32, at most `most`, times `percent`/100.
    Patches { most: u64, percent: u64 },
    /// Anthropic: an area of 750 pixels is a token, at most `most`.
    Area { most: u64 },
    /// Google: 258 for each tile; from Gemini 3 on a fixed number, here taken as the least.
    Crops { least: u64 },
    /// Mistral and other open models: patches of 16 × 16 in 1024 × 1024, one more for each line.
    Grid,
}

const GPT_4O: Rule = Rule::Tiles { base: 85, tile: 170 };
const CLAUDE: Rule = Rule::Area { most: 1600 };
/// From Opus 4.7 on pictures are seen in a higher resolution.
const CLAUDE_FINE: Rule = Rule::Area { most: 4784 };

impl Rule {
    /// The rules that may hold, the likeliest first. With a known model it is one.
    fn of(tokenizer: Tokenizer, model: &str) -> Vec<Rule> {
        match tokenizer {
            Tokenizer::O200k | Tokenizer::Cl100k => Rule::of_openai(model),
            Tokenizer::Unpublished => Rule::of_others(model),
        }
    }

    /// As the vendor's guide to images lists them by model.
    fn of_openai(model: &str) -> Vec<Rule> {
        let is = |start: &str| model.starts_with(start);
        let patches = |most, percent| vec![Rule::Patches { most, percent }];
        if is("gpt-4o-mini") {
            return vec![Rule::Tiles { base: 2833, tile: 5667 }];
        }
        if is("gpt-4.1-mini") || is("gpt-5-mini") || is("gpt-5.4-mini") {
            return patches(1536, 162);
        }
        if is("gpt-4.1-nano") || is("gpt-5-nano") || is("gpt-5.4-nano") {
            return patches(1536, 246);
        }
        if is("o4-mini") {
            return patches(1536, 172);
        }
        if is("gpt-4o") || is("gpt-4.1") || is("gpt-4.5") || is("gpt-4-turbo") {
            return vec![GPT_4O];
        }
        if is("o1") || is("o3") {
            return vec![Rule::Tiles { base: 75, tile: 150 }];
        }
        if model == "gpt-5" || is("gpt-5-") || is("gpt-5.1") {
            return vec![Rule::Tiles { base: 70, tile: 140 }];
        }
        // Newer ones, and deployments whose name tells nothing: the two ways that are usual.
        vec![
            GPT_4O,
            Rule::Patches { most: 2500, percent: 100 },
            Rule::Patches { most: 1536, percent: 246 },
        ]
    }

    fn of_others(model: &str) -> Vec<Rule> {
        let name = model.rsplit('/').next().unwrap_or_default();
        if name.contains("claude") {
            const COARSE: [&str; 8] = [
                "claude-3", "haiku", "opus-4-0", "opus-4-1", "opus-4-2", "opus-4-5", "opus-4-6",
                "sonnet-4",
            ];
            let coarse = COARSE.iter().any(|word| name.contains(word));
            return vec![if coarse { CLAUDE } else { CLAUDE_FINE }];
        }
        if name.contains("gemini") {
            let fixed = !name.contains("gemini-1") && !name.contains("gemini-2");
            return vec![Rule::Crops { least: if fixed { 1120 } else { 258 } }];
        }
        if ["mistral", "ministral", "pixtral", "magistral"].iter().any(|word| name.contains(word)) {
            return vec![Rule::Grid];
        }
        vec![CLAUDE, CLAUDE_FINE, Rule::Grid, Rule::Crops { least: 1120 }]
    }

    /// `None`: a size that nobody knows counts as the largest.
    fn tokens(self, size: Option<Size>, detail: Option<&str>) -> u64 {
        let low = detail == Some("low");
        match self {
            Rule::Tiles { base, .. } if low => base,
            Rule::Tiles { base, tile } => base + tile * size.map_or(8, Size::tiles),
            Rule::Patches { most, percent } => {
                let most = match detail {
                    Some("low") => most.min(256),
                    Some("original") => most.max(10_000),
                    _ => most,
                };
                let patches = size.map_or(most, |size| size.squares(32).min(most));
                (patches * percent).div_ceil(100)
            }
            Rule::Area { most } => size.map_or(most, |size| (size.area() / 750 + 1).min(most)),
            Rule::Crops { least } => {
                const MOST: u64 = 16;
                (258 * size.map_or(MOST, |size| size.crops().min(MOST))).max(least)
            }
            Rule::Grid => size.map_or(64 * 65, |size| {
                let size = size.within(1024, 1024);
                size.squares(16) + size.height.div_ceil(16)
            }),
        }
    }
}

impl Size {
    fn area(self) -> u64 {
        self.width.saturating_mul(self.height)
    }

    fn squares(self, side: u64) -> u64 {
        self.width.div_ceil(side).saturating_mul(self.height.div_ceil(side))
    }

    /// Shrunk, never grown, until it fits.
    fn within(self, width: u64, height: u64) -> Size {
        let shrink = |size: Size, of: u64, to: u64| Size {
            width: (size.width * to).div_ceil(of).max(1),
            height: (size.height * to).div_ceil(of).max(1),
        };
        let size = if self.width > width { shrink(self, self.width, width) } else { self };
        if size.height > height { shrink(size, size.height, height) } else { size }
    }

    fn tiles(self) -> u64 {
        let size = self.within(2048, 2048);
        let size = if size.width < size.height {
            size.within(768, u64::MAX)
        } else {
            size.within(u64::MAX, 768)
        };
        size.squares(512)
    }

    /// Up to 384 on both sides one; else the picture is cut into squares of two thirds of its
    /// short side, between 256 and 768.
    fn crops(self) -> u64 {
        if self.width <= 384 && self.height <= 384 {
            return 1;
        }
        self.squares((self.width.min(self.height) * 2 / 3).clamp(256, 768))
    }
}

/// The size of a picture, if its first bytes tell it.
fn size(source: &MediaSource) -> Option<Size> {
    let MediaSource::Base64 { data, .. } = source else { return None };
    // The marker of a JPEG may stand behind a preview of up to 64 KB and a colour profile.
    let head = decode_head(data, 192 * 1024);
    let size = png(&head).or_else(|| gif(&head)).or_else(|| webp(&head)).or_else(|| jpeg(&head))?;
    // No format holds more, and smaller numbers keep every sum in range.
    (size.width.max(size.height) <= 1 << 16 && size.area() > 0).then_some(size)
}

fn decode_head(data: &str, bytes: usize) -> Vec<u8> {
    let head = &data.as_bytes()[..data.len().min(bytes / 3 * 4)];
    let head = &head[..head.len() / 4 * 4];
    match base64::engine::general_purpose::STANDARD.decode(head) {
        Ok(decoded) => decoded,
        // Line breaks or a broken end: the first bytes may be sound all the same.
        Err(_) => base64::engine::general_purpose::STANDARD
            .decode(&head[..head.len().min(64)])
            .unwrap_or_default(),
    }
}

fn big(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let field = bytes.get(at..at + count)?;
    Some(field.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn little(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let field = bytes.get(at..at + count)?;
    Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn png(head: &[u8]) -> Option<Size> {
    let is_png = head.starts_with(b"\x89PNG\r\n\x1a\n");
    is_png.then_some(Size { width: big(head, 16, 4)?, height: big(head, 20, 4)? })
}

fn gif(head: &[u8]) -> Option<Size> {
    let is_gif = head.starts_with(b"GIF8");
    is_gif.then_some(Size { width: little(head, 6, 2)?, height: little(head, 8, 2)? })
}

fn webp(head: &[u8]) -> Option<Size> {
    if !head.starts_with(b"RIFF") || head.get(8..12)? != b"WEBP" {
        return None;
    }
    match head.get(12..16)? {
        b"VP8X" => Some(Size { width: little(head, 24, 3)? + 1, height: little(head, 27, 3)? + 1 }),
        b"VP8L" => {
            let bits = little(head, 21, 4)?;
            Some(Size { width: (bits & 0x3fff) + 1, height: (bits >> 14 & 0x3fff) + 1 })
        }
        _ => Some(Size {
            width: little(head, 26, 2)? & 0x3fff,
            height: little(head, 28, 2)? & 0x3fff,
        }),
    }
}

fn jpeg(head: &[u8]) -> Option<Size> {
    if !head.starts_with(b"\xff\xd8") {
        return None;
    }
    let mut at = 2;
    loop {
        while *head.get(at)? == 0xff {
            at += 1;
        }
        let marker = *head.get(at)?;
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if is_frame {
            return Some(Size { height: big(head, at + 4, 2)?, width: big(head, at + 6, 2)? });
        }
        let length = usize::try_from(big(head, at + 1, 2)?).ok()?;
        at += 1 + length.max(2);
    }
}

/// A document, as far as its bytes tell.
struct Document {
    bytes: u64,
    pages: Option<u64>,
    is_pdf: bool,
}

/// A page is sent as its text and as a picture. Anthropic states 1,500 to 3,000 tokens for the
/// text of a page; the picture is at most the finest that any vendor takes.
const PAGE_TEXT: u64 = 3_000;
const PAGE_PICTURE: u64 = 4_784;
/// Where neither bytes nor pages are known (an address, a vendor's file): a long report. No
/// bound in the strict sense; a bill above its hold is booked in full and counted.
const UNKNOWN_DOCUMENT: u64 = 100_000;
/// Vendors take no more pages at once.
const MOST_PAGES: u64 = 100;

impl Document {
    fn of(source: &MediaSource) -> Document {
        let MediaSource::Base64 { media_type, data } = source else {
            return Document { bytes: 0, pages: None, is_pdf: true };
        };
        let is_pdf = media_type == "application/pdf";
        let bytes = decoded_len(data);
        let pages = if is_pdf { pages(data).or(Some(bytes / 4096 + 1)) } else { Some(1) };
        Document { bytes, pages: pages.map(|pages| pages.clamp(1, MOST_PAGES)), is_pdf }
    }

    fn bound(&self) -> u64 {
        match self.pages {
            None => UNKNOWN_DOCUMENT,
            Some(pages) if self.is_pdf => pages * (PAGE_TEXT + PAGE_PICTURE),
            Some(_) => self.bytes + 64,
        }
    }

    fn estimate(&self) -> u64 {
        match self.pages {
            None => UNKNOWN_DOCUMENT / 10,
            // Half a page of text and a picture of medium size.
            Some(pages) if self.is_pdf => pages * 2_250,
            Some(_) => self.bytes / 4,
        }
    }
}

/// The pages of a PDF, if it names them in plain sight; in newer files they may be packed.
fn pages(data: &str) -> Option<u64> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    let named = bytes.windows(5).enumerate().filter(|(_, word)| *word == b"/Page");
    let single = named.filter(|(at, _)| {
        let next_is_letter = bytes.get(at + 5).is_some_and(u8::is_ascii_alphabetic);
        let before = bytes[..*at].trim_ascii_end();
        !next_is_letter && before.ends_with(b"/Type")
    });
    Some(single.count()).filter(|count| *count > 0).map(super::to_u64)
}

/// The bytes behind a base64 text.
fn decoded_len(data: &str) -> u64 {
    super::to_u64(data.len()) / 4 * 3 + 3
}
