//! What people are told when a call is refused or fails: the reason and the way out, in both
//! languages. Never a text of prompt or answer, and a vendor's own words only where the caller has
//! to mend the request.

use jiff::tz::TimeZone;

use crate::money::Currency;
use crate::provider::{ProviderError, ProviderErrorKind};
use crate::reply::{BudgetRefusal, FailureKind, Words};
use crate::request::BudgetPeriod;

pub(super) fn time_up_words() -> Words {
    Words::new(
        "The time limit of the request was reached. Ask with a larger timeout_ms.",
        "Die Zeitgrenze der Anfrage ist erreicht. Fragen Sie mit größerem timeout_ms.",
    )
}

pub(super) fn attack_words() -> Words {
    Words::new(
        "The request looks like an attempt to override instructions and was not sent. Rephrase it, or ask your admin if it is harmless.",
        "Die Anfrage sieht aus wie ein Versuch, Anweisungen zu umgehen, und wurde nicht gesendet. Formulieren Sie sie um oder fragen Sie Ihre Administration, wenn sie harmlos ist.",
    )
}

/// `sign` is a short word such as `SECRET`, `active content`, `rule NAME`.
fn withheld_words(sign: &str) -> Words {
    Words::new(
        format!(
            "The answer was withheld, since it held something that must not be shown ({sign}). Ask differently, or ask your admin."
        ),
        format!(
            "Die Antwort wurde zurückgehalten, weil darin etwas stand, das nicht gezeigt werden darf ({sign}). Fragen Sie anders oder wenden Sie sich an Ihre Administration."
        ),
    )
}

/// Level, rest and renewal, in both languages (CONTRACT 22).
pub(super) fn budget_words(refusal: &BudgetRefusal, currency: &Currency, zone: &TimeZone) -> Words {
    let BudgetRefusal { node, needed, .. } = refusal;
    let left = refusal.left.at_least_zero();
    let renewal = refusal.renews_at.to_zoned(zone.clone());
    let (en_day, de_day) =
        (renewal.strftime("%Y-%m-%d %H:%M %Z"), renewal.strftime("%d.%m.%Y %H:%M %Z"));
    let (en_period, de_period) = match refusal.period {
        BudgetPeriod::Day => ("daily", "Tagesbudget"),
        BudgetPeriod::Week => ("weekly", "Wochenbudget"),
        BudgetPeriod::Month => ("monthly", "Monatsbudget"),
        BudgetPeriod::Quarter => ("quarterly", "Quartalsbudget"),
        BudgetPeriod::Year => ("yearly", "Jahresbudget"),
    };
    Words::new(
        format!(
            "The {en_period} budget of {node} has {left} {currency} left and this call may need {needed} {currency}. It renews at {en_day}. Ask for less output, or ask your admin for more."
        ),
        format!(
            "Das {de_period} von {node} hat noch {left} {currency}, und dieser Aufruf kann {needed} {currency} brauchen. Es erneuert sich am {de_day}. Verlangen Sie weniger Ausgabe oder bitten Sie Ihre Administration um mehr."
        ),
    )
}

/// What a caller is told of a vendor's failure. The vendor's own words go to the caller only
/// where the caller has to mend the request.
pub(super) fn upstream_words(error: &ProviderError) -> (FailureKind, Words) {
    use ProviderErrorKind::*;
    let vendor = error.vendor_message.as_ref().map(|message| &*message.0);
    let detail = vendor.unwrap_or(&error.detail);
    match error.kind {
        BadRequest | Unsupported => (
            FailureKind::BadInput,
            Words::new(
                format!("The model's vendor does not accept the request: {detail}"),
                format!("Der Anbieter des Modells nimmt die Anfrage nicht an: {detail}"),
            ),
        ),
        ContextLength => (
            FailureKind::TooLarge,
            Words::new(
                format!("The request is too long for the model: {detail}"),
                format!("Die Anfrage ist für das Modell zu lang: {detail}"),
            ),
        ),
        ContentFilter => (
            FailureKind::Guard,
            Words::new(
                "The vendor's content filter refused the request. Rephrase it.",
                "Der Inhaltsfilter des Anbieters hat die Anfrage abgelehnt. Bitte umformulieren.",
            ),
        ),
        Withheld => (FailureKind::Guard, withheld_words(&error.detail)),
        Timeout => (
            FailureKind::UpstreamTimeout,
            Words::new(
                format!("The model did not answer in time ({}). Try again.", error.detail),
                format!(
                    "Das Modell hat nicht rechtzeitig geantwortet ({}). Bitte erneut versuchen.",
                    error.detail
                ),
            ),
        ),
        Connect | RateLimited | Server => (
            FailureKind::NoCandidate,
            Words::new(
                format!(
                    "Every permitted model failed, the last one with: {}. Try again shortly.",
                    error.detail
                ),
                format!(
                    "Jedes erlaubte Modell ist ausgefallen, das letzte mit: {}. Bitte gleich noch einmal versuchen.",
                    error.detail
                ),
            ),
        ),
        Cut | Malformed | Auth | NotFound => (
            FailureKind::Upstream,
            Words::new(
                format!(
                    "The model's vendor failed: {}. Try again, or choose another model.",
                    error.detail
                ),
                format!(
                    "Der Anbieter des Modells ist ausgefallen: {}. Versuchen Sie es erneut oder wählen Sie ein anderes Modell.",
                    error.detail
                ),
            ),
        ),
    }
}
