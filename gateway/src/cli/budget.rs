//! `stellwerk budget set|show|remove`: limits on nodes of the tree.
//!
//! Works on the store beside a running server, which sees a change within a second.

use jiff::Timestamp;
use stellwerk_core::budget::{Budget, BudgetStatus};
use stellwerk_core::config::Money;
use stellwerk_core::request::Locale;

use crate::cli::CommandError;
use crate::cli::args::BudgetCommand;
use crate::cli::explain::period_de;
use crate::cli::output::{self, Table};
use crate::cli::setup::{Context, Desk};

pub(super) async fn run(context: &Context, command: BudgetCommand) -> Result<(), CommandError> {
    let desk = Desk::open(context).await?;
    let done = change(context, &desk, command).await;
    desk.close(done).await
}

async fn change(
    context: &Context,
    desk: &Desk,
    command: BudgetCommand,
) -> Result<(), CommandError> {
    match command {
        BudgetCommand::Set { node, amount, period, soft, json } => {
            let node = desk.node(node)?;
            let budget = Budget { node, period, limit: amount, soft };
            let status = desk.store.set_budget(budget, Timestamp::now()).await?;
            match json {
                true => output::json(&status),
                false => output::line(&table(&[status], &desk.config.money, context.locale)),
            }
        }
        BudgetCommand::Show { node, json } => {
            let node = node.map(|node| desk.node(node)).transpose()?;
            let budgets = desk.store.budgets(node, Timestamp::now()).await?;
            match (json, budgets.is_empty()) {
                (true, _) => output::json(&budgets),
                (false, false) => {
                    output::line(&table(&budgets, &desk.config.money, context.locale))
                }
                (false, true) => {
                    output::say(&context.words(
                        "There is no budget. Set one: stellwerk budget set company 500 --period month",
                        "Es gibt kein Budget. So entsteht eines: stellwerk budget set company 500 --period month",
                    ));
                    Ok(())
                }
            }
        }
        // No check that the node exists: a budget outlives a person who was closed.
        BudgetCommand::Remove { node, period } => {
            if desk.store.remove_budget(node.clone(), period).await? {
                return Ok(());
            }
            Err(CommandError::refused(
                format!("{node} has no budget for a {period}; `stellwerk budget show` lists them."),
                format!(
                    "{node} hat kein Budget je {}; `stellwerk budget show` zeigt alle.",
                    period_de(period)
                ),
            ))
        }
    }
}

fn table(budgets: &[BudgetStatus], money: &Money, locale: Locale) -> String {
    let header = match locale {
        Locale::En => ["node", "period", "limit", "spent", "held", "left", "kind", "renews"],
        Locale::De => {
            ["Knoten", "Zeitraum", "Grenze", "verbraucht", "reserviert", "übrig", "Art", "neu ab"]
        }
    };
    let mut table = Table::new(header).right([2, 3, 4, 5]);
    for status in budgets {
        let (period, kind) = match (locale, status.soft) {
            (Locale::En, soft) => (status.period.to_string(), if soft { "soft" } else { "hard" }),
            (Locale::De, soft) => {
                (period_de(status.period).to_owned(), if soft { "weich" } else { "hart" })
            }
        };
        table.row([
            status.node.to_string(),
            period,
            status.limit.to_string(),
            status.spent.to_string(),
            status.held.to_string(),
            status.left.to_string(),
            kind.to_owned(),
            // The day of the company's calendar; the JSON has the exact moment.
            status.renews_at.to_zoned(money.time_zone.clone()).date().to_string(),
        ]);
    }
    format!("{table}{}", money.currency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::ids::Node;
    use stellwerk_core::money::{Cost, Currency, ExchangeRate};
    use stellwerk_core::request::BudgetPeriod;

    #[test]
    fn a_budget_shows_what_is_spent_held_and_left() {
        let status = BudgetStatus {
            node: Node::Department("einkauf".into()),
            period: BudgetPeriod::Month,
            limit: "250".parse().unwrap(),
            spent: "12.345678901".parse().unwrap(),
            held: Cost::from_nanos(1),
            left: "237.654321098".parse().unwrap(),
            soft: false,
            renews_at: "2026-07-31T22:00:00Z".parse().unwrap(),
        };
        let money = Money {
            currency: Currency::new("EUR").unwrap(),
            usd: ExchangeRate::ONE,
            time_zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap(),
        };
        insta::assert_snapshot!(table(std::slice::from_ref(&status), &money, Locale::En));
        let json = serde_json::to_value(&status).unwrap();
        let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(
            fields,
            [
                "node",
                "period",
                "limit_nano",
                "spent_nano",
                "held_nano",
                "left_nano",
                "soft",
                "renews_at"
            ]
        );
    }
}
