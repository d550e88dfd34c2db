//! What a Claude model takes, by its generation: Anthropic changed thinking, sampling and
//! structured output between them, and refuses with a 400 what belongs to another.
//!
//! Shared by `anthropic` and `bedrock`. Knows nothing of wires. Facts as of 2026-11, from
//! Anthropic's pages on adaptive thinking, structured outputs and migration.

use serde_json::{Value, json};

use crate::request::Reasoning;

/// The generation of a model, read from its vendor name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation {
    major: u16,
    minor: u16,
}

/// How hard the model is told to think.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Thinking {
    /// The `thinking` field.
    pub(crate) thinking: Option<Value>,
    /// `output_config.effort`.
    pub(crate) effort: Option<&'static str>,
}

/// Anthropic's least thinking budget.
const LEAST_BUDGET: u32 = 1024;

impl Generation {
    /// Reads names such as `claude-3-7-sonnet-20250219`, `claude-opus-4-6`,
    /// `eu.anthropic.claude-haiku-4-5-20251001-v1:0`.
    ///
    /// A Claude without a number is taken for the newest. A name without `claude` is another
    /// vendor's model behind Anthropic's format: those servers follow the older form, with
    /// sampling and thinking budgets.
    pub(crate) fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let Some(at) = name.find("claude") else { return Self { major: 4, minor: 0 } };
        let words = || name[at..].split(['-', '.', '@', ':', '/', '_']);
        // A date is no version: `claude-opus-4-20250514` is 4.0.
        let number = |word: &str| if word.len() <= 2 { word.parse::<u16>().ok() } else { None };
        let Some(first) = words().position(|word| number(word).is_some()) else {
            return Self { major: u16::MAX, minor: 0 };
        };
        let mut numbers = words().skip(first).map(number);
        let major = numbers.next().flatten().unwrap_or_default();
        let minor = numbers.next().flatten().unwrap_or_default();
        Self { major, minor }
    }

    fn at_least(self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// Whether `temperature`, `top_p` and `top_k` are taken: not since 4.7.
    pub(crate) fn takes_sampling(self) -> bool {
        !self.at_least(4, 7)
    }

    /// Whether `temperature` and `top_p` may stand together: not since 4.1.
    pub(crate) fn takes_both_samplings(self) -> bool {
        !self.at_least(4, 1)
    }

    /// Whether the model keeps to a schema (`output_config.format`, `strict` tools): since 4.5.
    pub(crate) fn keeps_to_schema(self) -> bool {
        self.at_least(4, 5)
    }

    /// What tells the model to think as hard as the caller asked, within the output limit.
    pub(crate) fn thinking(self, reasoning: Option<&Reasoning>, max_tokens: u32) -> Thinking {
        let Some(reasoning) = reasoning else { return Thinking::default() };
        let effort = reasoning.effort.as_deref();
        if effort == Some("none") {
            // From 5 on the model thinks unless told otherwise, and some refuse to be told.
            let effort = self.at_least(5, 0).then_some("low");
            return Thinking { thinking: None, effort };
        }
        if !self.at_least(3, 7) || (effort.is_none() && reasoning.budget_tokens.is_none()) {
            return Thinking::default();
        }
        let takes_budgets = !self.at_least(4, 7);
        match reasoning.budget_tokens {
            Some(budget) if takes_budgets => budgeted(budget, max_tokens),
            None if !self.at_least(4, 6) => budgeted(share_of(effort, max_tokens), max_tokens),
            budget => self.adaptive(effort, budget, max_tokens),
        }
    }

    fn adaptive(self, effort: Option<&str>, budget: Option<u32>, max_tokens: u32) -> Thinking {
        let effort = match effort {
            Some("minimal" | "low") => "low",
            Some("medium") => "medium",
            Some("xhigh") if self.at_least(4, 7) => "xhigh",
            Some("max") => "max",
            Some(_) => "high",
            None => effort_of(budget.unwrap_or(LEAST_BUDGET), max_tokens),
        };
        // Since 4.7 the thoughts are left out unless asked for; they are billed all the same.
        let thinking = if self.at_least(4, 7) {
            json!({"type": "adaptive", "display": "summarized"})
        } else {
            json!({"type": "adaptive"})
        };
        Thinking { thinking: Some(thinking), effort: Some(effort) }
    }
}

/// A budget must be at least 1024 and less than the output limit, which it is a part of. One
/// that would leave nothing for the answer is cut to four fifths of the limit.
fn budgeted(budget: u32, max_tokens: u32) -> Thinking {
    let budget = if budget < max_tokens { budget } else { fifths(max_tokens, 4) };
    let budget = budget.max(LEAST_BUDGET);
    if budget >= max_tokens {
        return Thinking::default();
    }
    let thinking = json!({"type": "enabled", "budget_tokens": budget});
    Thinking { thinking: Some(thinking), effort: None }
}

/// The share of the output limit that an effort may think for.
pub(crate) fn share_of(effort: Option<&str>, max_tokens: u32) -> u32 {
    match effort {
        Some("minimal") => LEAST_BUDGET,
        Some("low") => fifths(max_tokens, 1),
        Some("medium") => max_tokens / 2,
        _ => fifths(max_tokens, 4),
    }
}

fn effort_of(budget: u32, max_tokens: u32) -> &'static str {
    if budget <= fifths(max_tokens, 1) {
        "low"
    } else if budget <= max_tokens / 2 {
        "medium"
    } else {
        "high"
    }
}

fn fifths(tokens: u32, count: u32) -> u32 {
    tokens / 5 * count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasoning(effort: Option<&str>, budget_tokens: Option<u32>) -> Reasoning {
        Reasoning { effort: effort.map(str::to_owned), budget_tokens }
    }

    #[test]
    fn generations_are_read_from_every_kind_of_name() {
        let of = |name| {
            let generation = Generation::of(name);
            (generation.major, generation.minor)
        };
        assert_eq!(of("claude-3-opus-20240229"), (3, 0));
        assert_eq!(of("claude-3-7-sonnet-20250219"), (3, 7));
        assert_eq!(of("claude-opus-4-20250514"), (4, 0));
        assert_eq!(of("anthropic.claude-opus-4-20250514-v1:0"), (4, 0));
        assert_eq!(of("eu.anthropic.claude-haiku-4-5-20251001-v1:0"), (4, 5));
        assert_eq!(of("claude-haiku-4-5@20251001"), (4, 5));
        assert_eq!(of("global.anthropic.claude-opus-4-6-v1"), (4, 6));
        assert_eq!(of("claude-sonnet-5"), (5, 0));
        assert_eq!(of("claude-2.1"), (2, 1));
        assert_eq!(of("claude-mythos-preview"), (u16::MAX, 0));
        assert_eq!(of("kimi-k2"), (4, 0));
    }

    #[test]
    fn older_models_get_a_budget_below_the_output_limit() {
        let sonnet = Generation::of("claude-sonnet-4-5");
        let budget = |effort, budget, limit| {
            let thinking = sonnet.thinking(Some(&reasoning(effort, budget)), limit).thinking;
            thinking.map(|thinking| thinking["budget_tokens"].as_u64().unwrap_or_default())
        };
        assert_eq!(budget(Some("low"), None, 10_000), Some(2_000));
        assert_eq!(budget(Some("medium"), None, 10_000), Some(5_000));
        assert_eq!(budget(None, Some(3_000), 10_000), Some(3_000));
        assert_eq!(budget(None, Some(20_000), 10_000), Some(8_000));
        assert_eq!(budget(None, Some(100), 10_000), Some(1024));
        assert_eq!(budget(Some("high"), None, 1024), None);
    }

    #[test]
    fn newer_models_get_adaptive_thinking_with_an_effort() {
        let opus = Generation::of("claude-opus-4-7");
        assert_eq!(
            opus.thinking(Some(&reasoning(Some("xhigh"), None)), 4096),
            Thinking {
                thinking: Some(json!({"type": "adaptive", "display": "summarized"})),
                effort: Some("xhigh"),
            }
        );
        assert_eq!(
            opus.thinking(Some(&reasoning(None, Some(512))), 4096).effort,
            Some("low"),
            "a budget becomes an effort, since the model refuses budgets"
        );
        assert!(!opus.takes_sampling());
    }

    #[test]
    fn who_asks_for_no_thinking_gets_none() {
        let sonnet = Generation::of("claude-sonnet-4-5");
        assert_eq!(sonnet.thinking(None, 4096), Thinking::default());
        assert_eq!(
            sonnet.thinking(Some(&reasoning(Some("none"), None)), 4096),
            Thinking::default()
        );
        let old = Generation::of("claude-3-haiku-20240307");
        assert_eq!(old.thinking(Some(&reasoning(Some("high"), None)), 4096), Thinking::default());
    }
}
