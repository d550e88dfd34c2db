//! What may not be asked or answered here: the company's own rules.
//!
//! Decides which of `[[guard.rule]]` speak about a question; `output` asks the same of answers.
//! Knows nothing of how a person is told, nor of who is in which group.

use crate::config::{GuardRule, RuleAction, RuleSide};
use crate::guard::GuardError;
use crate::guard::walk::{self, Origin, Visitor};
use crate::ids::{Group, UseCase};
use crate::reply::Words;
use crate::request::ChatRequest;
use crate::trace::Classification;

/// Who asks, as far as rules care.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The use case of the call.
    pub use_case: Option<&'a UseCase>,
    /// The groups of the person.
    pub groups: &'a [Group],
}

/// The rules of one side that are for this asker.
pub fn rules_for<'r>(
    rules: &'r [GuardRule],
    side: RuleSide,
    asker: Asker<'_>,
) -> impl Iterator<Item = &'r GuardRule> {
    rules
        .iter()
        .filter(move |rule| rule.on == side || rule.on == RuleSide::Both)
        .filter(move |rule| rule.is_for(asker.use_case, asker.groups))
}

/// The rules that speak about what is asked: by what a person or a document says, and by the
/// classes that classifiers of the company's own gave the question.
pub fn of_question<'r>(
    rules: &'r [GuardRule],
    asker: Asker<'_>,
    request: &ChatRequest,
    classification: &Classification,
) -> Result<Vec<&'r GuardRule>, GuardError> {
    let mut open: Vec<&GuardRule> = rules_for(rules, RuleSide::Question, asker).collect();
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let mut speaking = Vec::new();
    let is_class = |rule: &GuardRule| {
        rule.custom.iter().any(|(classifier, classes)| {
            classification.custom.get(classifier).is_some_and(|class| classes.contains(class))
        })
    };
    open.retain(|rule| {
        let speaks = is_class(rule);
        if speaks {
            speaking.push(*rule);
        }
        !speaks
    });
    let mut listener = Listener { open, speaking };
    walk::visit(&mut request.clone(), &mut listener)?;
    // In the order of the file, whatever spoke first.
    let heard = listener.speaking;
    Ok(rules.iter().filter(|rule| heard.iter().any(|other| other.id == rule.id)).collect())
}

/// The first rule that forbids.
pub fn forbidding<'r>(speaking: &[&'r GuardRule]) -> Option<&'r GuardRule> {
    speaking.iter().copied().find(|rule| rule.action == RuleAction::Block)
}

/// What the person is told when a rule forbids the question.
pub fn refusal(rule: &GuardRule) -> Words {
    rule.note.clone().unwrap_or_else(|| {
        let id = &rule.id;
        Words::new(
            format!(
                "A rule of your company ({id}) does not allow this question, so it was not sent. Ask your admin if you need it."
            ),
            format!(
                "Eine Regel Ihrer Firma ({id}) erlaubt diese Frage nicht; sie wurde nicht gesendet. Fragen Sie Ihre Administration, wenn Sie sie brauchen."
            ),
        )
    })
}

/// Asks every open rule about every text.
struct Listener<'r> {
    open: Vec<&'r GuardRule>,
    speaking: Vec<&'r GuardRule>,
}

impl Listener<'_> {
    fn hear(&mut self, origin: Origin, text: &str) {
        // The operator's own instructions and the model's earlier answers ask nothing.
        if !matches!(origin, Origin::Person | Origin::Data) {
            return;
        }
        let speaking = &mut self.speaking;
        self.open.retain(|rule| {
            let speaks = rule.speaks_of(text);
            if speaks {
                speaking.push(*rule);
            }
            !speaks
        });
    }
}

impl Visitor for Listener<'_> {
    fn text(&mut self, origin: Origin, text: &mut String) {
        self.hear(origin, text);
    }

    fn json(&mut self, origin: Origin, json: &mut String) {
        self.hear(origin, json);
    }

    fn value(&mut self, origin: Origin, value: &mut serde_json::Value) {
        self.hear(origin, &value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Pattern;
    use crate::request::{Message, Role};

    fn rule(id: &str, pattern: &str) -> GuardRule {
        GuardRule {
            id: id.to_owned(),
            patterns: vec![Pattern::new(pattern).unwrap()],
            custom: Default::default(),
            use_cases: Vec::new(),
            groups: Vec::new(),
            on: RuleSide::Question,
            action: RuleAction::Block,
            note: None,
        }
    }

    fn speaking(rules: &[GuardRule], groups: &[Group], text: &str) -> Vec<String> {
        let asker = Asker { use_case: None, groups };
        let found = crate::classify::off(None);
        let request = ChatRequest::ask(text);
        let speaking = of_question(rules, asker, &request, &found).unwrap();
        speaking.iter().map(|rule| rule.id.clone()).collect()
    }

    #[test]
    fn a_rule_speaks_only_where_its_words_stand() {
        let rules = [rule("falke", "(?i)\\bfalke\\b"), rule("other", "xyz")];
        assert_eq!(speaking(&rules, &[], "Was weißt du über Falke?"), ["falke"]);
        assert!(speaking(&rules, &[], "Wo nisten Turmfalken?").is_empty());
    }

    #[test]
    fn a_rule_for_a_group_leaves_the_others_alone() {
        let rules = [GuardRule { groups: vec!["praktikum".into()], ..rule("a", "falke") }];
        assert_eq!(speaking(&rules, &["praktikum".into()], "falke"), ["a"]);
        assert!(speaking(&rules, &["leitung".into()], "falke").is_empty());
    }

    #[test]
    fn instructions_of_the_operator_ask_nothing() {
        let rules = [rule("a", "falke")];
        let system = Message::text(Role::System, "Sprich nie über falke.");
        let request = ChatRequest {
            messages: vec![system, Message::text(Role::User, "Hallo")],
            ..Default::default()
        };
        let asker = Asker { use_case: None, groups: &[] };
        let found = crate::classify::off(None);
        assert!(of_question(&rules, asker, &request, &found).unwrap().is_empty());
    }

    #[test]
    fn a_class_of_ones_own_classifier_speaks_too() {
        let mut found = crate::classify::off(None);
        found.custom.insert("support".to_owned(), "refund".to_owned());
        let custom = [("support".to_owned(), vec!["refund".to_owned()])].into();
        let rules = [GuardRule { patterns: Vec::new(), custom, ..rule("a", "x") }];
        let asker = Asker { use_case: None, groups: &[] };
        let request = ChatRequest::ask("Geld zurück");
        let speaking = of_question(&rules, asker, &request, &found).unwrap();
        assert_eq!(forbidding(&speaking).map(|rule| rule.id.as_str()), Some("a"));
    }
}
