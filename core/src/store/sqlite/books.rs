//! The budgets with their counters as the writer keeps them while it works: hold, settle, set.
//!
//! Everything here runs on the writer's thread, inside its write transaction. Accounts are read
//! when they are first needed and forgotten when another process has written or a transaction
//! failed, so what is in memory is always what is in the file. Counters go back to the file once
//! per transaction, however many calls it carries.
//!
//! One rule makes counters exact: a counter that is missing is counted from the ledger and the
//! open holds. So a budget that is set late, a new period, another time zone and a hold that
//! outlives its budget need no cases of their own.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension, params};

use crate::budget::{self, Budget, BudgetStatus, Level, Notice, Reservation};
use crate::ids::{HoldId, Node, ProcessId};
use crate::ledger::{Ending, Entry, Flag};
use crate::money::Cost;
use crate::reply::BudgetRefusal;
use crate::request::BudgetPeriod;
use crate::store::sqlite::board::{Board, Gauge};
use crate::store::sqlite::rows::{self, Columns, EntryLists};
use crate::store::{HoldRequest, Settlement, StoreError};

/// A hold, ready to be written: what takes time was done on the caller's thread.
#[derive(Debug)]
pub(super) struct PreparedHold {
    hold: HoldId,
    amount: Cost,
    levels: Arc<[Node]>,
    levels_json: Arc<str>,
    draft_json: String,
}

impl PreparedHold {
    pub(super) fn id(&self) -> &HoldId {
        &self.hold
    }

    pub(super) fn of(request: HoldRequest, now: Timestamp) -> rusqlite::Result<Self> {
        let (levels, levels_json) = rows::levels_column(&request.levels)?;
        let mut draft = request.draft;
        draft.time = now;
        draft.levels = levels.to_vec();
        Ok(PreparedHold {
            hold: request.hold,
            amount: request.amount.at_least_zero(),
            levels,
            levels_json: levels_json.into(),
            draft_json: rows::to_json(&draft)?,
        })
    }
}

/// A settlement, ready to be written.
#[derive(Debug)]
pub(super) struct PreparedSettlement {
    hold: HoldId,
    entry: Entry,
    lists: EntryLists,
}

impl PreparedSettlement {
    pub(super) fn of(settlement: Settlement) -> rusqlite::Result<Self> {
        let lists = EntryLists::of(&settlement.entry)?;
        Ok(PreparedSettlement { hold: settlement.hold, entry: settlement.entry, lists })
    }
}

/// A hold that is not settled yet.
#[derive(Debug, Clone)]
struct OpenHold {
    position: i64,
    time: Timestamp,
    amount: Cost,
    levels: Arc<[Node]>,
    levels_json: Arc<str>,
}

/// A budget with the periods that were needed so far.
#[derive(Debug)]
struct Account {
    budget: Budget,
    running: Vec<Running>,
}

/// A budget in one period.
#[derive(Debug)]
struct Running {
    counter: i64,
    begin: Timestamp,
    end: Timestamp,
    spent: Cost,
    held: Cost,
    /// Thresholds that were told in this period.
    told: Vec<f64>,
    dirty: bool,
}

/// Points at one period of one account, until accounts are next forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    account: usize,
    running: usize,
}

/// What the writer knows.
#[derive(Debug)]
pub(super) struct Books {
    zone: TimeZone,
    thresholds: Vec<f64>,
    process: ProcessId,
    accounts: Vec<Account>,
    by_node: HashMap<Node, Arc<[usize]>>,
    /// This process's holds; `None`: to be read from the file.
    open: Option<HashMap<HoldId, OpenHold>>,
    dirty: Vec<Slot>,
    /// Nodes whose gauges on the board are no longer true.
    touched: Vec<Node>,
}

/// Nodes that are kept in memory at once. Use cases need no declaration, so callers could
/// otherwise fill the memory with names.
const MOST_NODES: usize = 20_000;

impl Books {
    pub(super) fn new(zone: TimeZone, mut thresholds: Vec<f64>, process: ProcessId) -> Self {
        thresholds.retain(|threshold| threshold.is_finite() && *threshold > 0.0);
        thresholds.sort_by(f64::total_cmp);
        Books {
            zone,
            thresholds,
            process,
            accounts: Vec::new(),
            by_node: HashMap::new(),
            open: None,
            dirty: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Sets money aside for all holds or for none.
    pub(super) fn reserve(
        &mut self,
        connection: &Connection,
        holds: &[PreparedHold],
        now: Timestamp,
    ) -> rusqlite::Result<Result<Result<Vec<Reservation>, BudgetRefusal>, StoreError>> {
        if let Some(twice) = self.already_open(connection, holds)? {
            return Ok(Err(StoreError::Exists(format!("hold {twice}"))));
        }
        // Counters first: one that is missing is counted from the holds in the file, which must
        // not contain those that are being decided here.
        let mut slots = Vec::with_capacity(holds.len());
        for hold in holds {
            slots.push(self.slots(connection, &hold.levels, now)?);
        }
        let levels = match self.decide(holds, &slots) {
            Ok(levels) => levels,
            Err((slot, needed)) => return Ok(Ok(Err(self.refusal(slot, needed)))),
        };
        let mut reservations = Vec::with_capacity(holds.len());
        for hold in holds {
            self.insert_hold(connection, hold, now)?;
            let (hold, amount) = (hold.hold.clone(), hold.amount);
            reservations.push(Reservation { hold, amount });
        }
        for (slot, level) in levels {
            self.put(slot, &level);
        }
        Ok(Ok(Ok(reservations)))
    }

    /// The levels as they are after all holds, or the slot that has not enough left and what
    /// all holds together would have needed there.
    fn decide(
        &self,
        holds: &[PreparedHold],
        slots: &[Vec<Slot>],
    ) -> Result<Vec<(Slot, Level)>, (Slot, Cost)> {
        let mut after: Vec<(Slot, Level)> = Vec::new();
        for (hold, slots_of_hold) in holds.iter().zip(slots) {
            let so_far = |slot: &Slot| {
                let decided = after.iter().find(|(seen, _)| seen == slot);
                decided.map_or_else(|| self.level(*slot), |(_, level)| level.clone())
            };
            let mut levels: Vec<Level> = slots_of_hold.iter().map(so_far).collect();
            if let Err(index) = budget::reserve(&mut levels, hold.amount) {
                let refused = slots_of_hold[index];
                let charged_there = holds.iter().zip(slots).filter(|(_, s)| s.contains(&refused));
                return Err((refused, charged_there.map(|(hold, _)| hold.amount).sum()));
            }
            for (slot, level) in slots_of_hold.iter().zip(levels) {
                match after.iter_mut().find(|(seen, _)| seen == slot) {
                    Some((_, decided)) => *decided = level,
                    None => after.push((*slot, level)),
                }
            }
        }
        Ok(after)
    }

    fn refusal(&self, slot: Slot, needed: Cost) -> BudgetRefusal {
        let level = self.level(slot);
        BudgetRefusal {
            left: level.left(),
            node: level.budget.node,
            period: level.budget.period,
            limit: level.budget.limit,
            needed,
            renews_at: self.running(slot).end,
        }
    }

    fn insert_hold(
        &mut self,
        connection: &Connection,
        hold: &PreparedHold,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO holds (id, process, time, amount, levels, draft)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                hold.hold.as_str(),
                self.process.as_str(),
                rows::nanos(now),
                hold.amount.nanos(),
                hold.levels_json,
                hold.draft_json,
            ])?;
        let open = OpenHold {
            position: connection.last_insert_rowid(),
            time: rows::timestamp(rows::nanos(now)),
            amount: hold.amount,
            levels: hold.levels.clone(),
            levels_json: hold.levels_json.clone(),
        };
        self.open(connection)?.insert(hold.hold.clone(), open);
        Ok(())
    }

    /// A hold that is open already under the same name.
    fn already_open(
        &mut self,
        connection: &Connection,
        holds: &[PreparedHold],
    ) -> rusqlite::Result<Option<HoldId>> {
        let open = self.open(connection)?;
        Ok(holds.iter().map(PreparedHold::id).find(|id| open.contains_key(*id)).cloned())
    }

    /// Replaces a hold by its bill.
    pub(super) fn settle(
        &mut self,
        connection: &Connection,
        settlement: &PreparedSettlement,
    ) -> rusqlite::Result<Result<Vec<Notice>, StoreError>> {
        let Some(hold) = self.open(connection)?.get(&settlement.hold).cloned() else {
            return Ok(Err(StoreError::NoSuchHold(settlement.hold.clone())));
        };
        let PreparedSettlement { entry, lists, .. } = settlement;
        let booked = self.book(connection, &settlement.hold, &hold, entry, lists)?;
        self.open(connection)?.remove(&settlement.hold);
        Ok(booked.ok_or_else(|| StoreError::NoSuchHold(settlement.hold.clone())))
    }

    /// Takes a hold out, writes its row and books the bill where the hold stood: in its period
    /// and at its levels, whatever has become of the calendar and the tree since. Gives the
    /// thresholds that the bill crossed; `None`: the hold was not there.
    fn book(
        &mut self,
        connection: &Connection,
        id: &HoldId,
        hold: &OpenHold,
        entry: &Entry,
        lists: &EntryLists,
    ) -> rusqlite::Result<Option<Vec<Notice>>> {
        let slots = self.slots(connection, &hold.levels, hold.time)?;
        if !delete_hold(connection, id, hold.position)? {
            return Ok(None);
        }
        let time = rows::nanos(hold.time);
        rows::insert_entry(connection, entry, lists, time, &hold.levels_json)?;
        let mut levels: Vec<Level> = slots.iter().map(|slot| self.level(*slot)).collect();
        budget::settle(&mut levels, hold.amount, entry.cost);
        for (slot, level) in slots.iter().zip(&levels) {
            self.put(*slot, level);
        }
        if entry.cost > hold.amount {
            metrics::counter!("stellwerk_bill_above_hold_total").increment(1);
        }
        let mut notices = Vec::new();
        for slot in slots {
            notices.extend(self.notices(connection, slot, hold.time)?);
        }
        Ok(Some(notices))
    }

    /// Lets go of holds for which nothing was called: no row, nothing spent.
    pub(super) fn release(
        &mut self,
        connection: &Connection,
        holds: &[HoldId],
    ) -> rusqlite::Result<()> {
        for id in holds {
            let Some(hold) = self.open(connection)?.get(id).cloned() else { continue };
            let slots = self.slots(connection, &hold.levels, hold.time)?;
            delete_hold(connection, id, hold.position)?;
            for slot in slots {
                let mut level = [self.level(slot)];
                budget::settle(&mut level, hold.amount, Cost::ZERO);
                self.put(slot, &level[0]);
            }
            self.open(connection)?.remove(id);
        }
        Ok(())
    }

    /// Settles every hold of a dead process at the held amount; how many.
    pub(super) fn recover(
        &mut self,
        connection: &Connection,
        dead: &ProcessId,
    ) -> rusqlite::Result<u64> {
        let mut recovered = 0;
        for (id, hold, draft) in read_holds(connection, dead)? {
            let mut entry: Entry = match serde_json::from_str(&draft) {
                Ok(entry) => entry,
                Err(error) => {
                    // The money stays held: better a budget that is too full than a row that
                    // says what nobody knows.
                    tracing::error!(hold = %id, %error, "a hold of a dead process has no readable draft and stays");
                    continue;
                }
            };
            entry.cost = hold.amount;
            entry.ending = Ending::Recovered;
            if !entry.flags.contains(&Flag::Recovered) {
                entry.flags.push(Flag::Recovered);
            }
            let lists = EntryLists::of(&entry)?;
            let booked = self.book(connection, &id, &hold, &entry, &lists)?;
            recovered += u64::from(booked.is_some());
            booked.iter().flatten().for_each(Notice::log);
        }
        Ok(recovered)
    }

    /// Sets or changes a budget.
    pub(super) fn set_budget(
        &mut self,
        connection: &Connection,
        budget: &Budget,
        now: Timestamp,
    ) -> rusqlite::Result<BudgetStatus> {
        self.flush(connection)?;
        let (node, period) = (budget.node.to_string(), budget.period.as_str());
        let limit = budget.limit.at_least_zero().nanos();
        let changed = connection
            .prepare_cached(
                "UPDATE budgets SET limit_nano = ?3, soft = ?4 WHERE node = ?1 AND period = ?2",
            )?
            .execute(params![node, period, limit, budget.soft])?;
        if changed == 0 {
            forget_counters(connection, &node, period)?;
            connection
                .prepare_cached(
                    "INSERT INTO budgets (node, period, limit_nano, soft) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![node, period, limit, budget.soft])?;
        }
        self.forget_accounts();
        let levels = [budget.node.clone()];
        let slots = self.slots(connection, &levels, now)?;
        self.touched.push(budget.node.clone());
        let of_period = |slot: &&Slot| self.accounts[slot.account].budget.period == budget.period;
        // The row was written above, so there is a slot for it.
        let slot = *slots.iter().find(of_period).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        self.forget_notices_above(connection, slot)?;
        Ok(self.status(slot))
    }

    /// Whether exactly this budget is set.
    pub(super) fn has_budget(
        &mut self,
        connection: &Connection,
        budget: &Budget,
    ) -> rusqlite::Result<bool> {
        let accounts = self.accounts_of(connection, &budget.node)?;
        Ok(accounts.iter().any(|&account| self.accounts[account].budget == *budget))
    }

    /// A raised limit makes room again: what is no longer reached may be told once more.
    fn forget_notices_above(
        &mut self,
        connection: &Connection,
        slot: Slot,
    ) -> rusqlite::Result<()> {
        let share = self.spent_share(slot);
        let budget = &self.accounts[slot.account].budget;
        let begin = rows::nanos(self.running(slot).begin);
        connection.execute(
            "DELETE FROM notices
             WHERE node = ?1 AND period = ?2 AND period_start = ?3 AND threshold > ?4",
            params![budget.node.to_string(), budget.period.as_str(), begin, share.min(f64::MAX)],
        )?;
        self.running_mut(slot).told.retain(|threshold| *threshold <= share);
        Ok(())
    }

    fn status(&self, slot: Slot) -> BudgetStatus {
        status_of(self.level(slot), self.running(slot).end)
    }

    /// Takes a budget away; whether there was one.
    pub(super) fn remove_budget(
        &mut self,
        connection: &Connection,
        node: &Node,
        period: BudgetPeriod,
    ) -> rusqlite::Result<bool> {
        self.flush(connection)?;
        let written = node.to_string();
        let removed = connection.execute(
            "DELETE FROM budgets WHERE node = ?1 AND period = ?2",
            params![written, period.as_str()],
        )?;
        forget_counters(connection, &written, period.as_str())?;
        self.forget_accounts();
        self.accounts_of(connection, node)?;
        self.touched.push(node.clone());
        Ok(removed > 0)
    }

    /// Writes the counters that changed; once per transaction.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let mut update =
            connection.prepare_cached("UPDATE counters SET spent = ?2, held = ?3 WHERE id = ?1")?;
        for slot in std::mem::take(&mut self.dirty) {
            let account = &mut self.accounts[slot.account];
            let running = &mut account.running[slot.running];
            running.dirty = false;
            update.execute(params![
                running.counter,
                running.spent.nanos(),
                running.held.nanos()
            ])?;
            if !self.touched.contains(&account.budget.node) {
                self.touched.push(account.budget.node.clone());
            }
        }
        Ok(())
    }

    /// Puts up on the board what was committed.
    pub(super) fn publish(&mut self, board: &Board) {
        // A node that was forgotten again within the transaction is left to upkeep.
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|node| self.by_node.contains_key(node));
        board.put(touched.into_iter().map(|node| {
            let gauges = self.gauges(&node);
            (node, gauges)
        }));
        self.forget_old_periods();
    }

    fn gauges(&self, node: &Node) -> Vec<Gauge> {
        let accounts = self.by_node.get(node).into_iter().flat_map(|indices| indices.iter());
        let gauge = |&index: &usize| {
            let account = &self.accounts[index];
            let latest = account.running.iter().max_by_key(|running| running.begin)?;
            Some(Gauge {
                limit: account.budget.limit,
                used: latest.spent + latest.held,
                begin: latest.begin,
                end: latest.end,
            })
        };
        accounts.filter_map(gauge).collect()
    }

    /// A server that runs for a year would otherwise keep a year of days.
    fn forget_old_periods(&mut self) {
        if self.accounts.iter().any(|account| account.running.len() > 8)
            || self.by_node.len() > MOST_NODES
        {
            self.forget_accounts();
        }
    }

    /// Drops what another process may have changed. Nothing of it may be unwritten.
    pub(super) fn forget_accounts(&mut self) {
        self.accounts.clear();
        self.by_node.clear();
        self.dirty.clear();
    }

    /// Drops everything, after a transaction that did not become true.
    pub(super) fn forget_all(&mut self) {
        self.forget_accounts();
        self.touched.clear();
        self.open = None;
    }

    fn open(
        &mut self,
        connection: &Connection,
    ) -> rusqlite::Result<&mut HashMap<HoldId, OpenHold>> {
        let open = match self.open.take() {
            Some(open) => open,
            None => read_holds(connection, &self.process)?
                .into_iter()
                .map(|(id, hold, _)| (id, hold))
                .collect(),
        };
        Ok(self.open.insert(open))
    }

    /// How many holds of this process are open.
    pub(super) fn open_count(&mut self, connection: &Connection) -> rusqlite::Result<usize> {
        self.open(connection).map(|open| open.len())
    }

    fn running(&self, slot: Slot) -> &Running {
        &self.accounts[slot.account].running[slot.running]
    }

    fn running_mut(&mut self, slot: Slot) -> &mut Running {
        &mut self.accounts[slot.account].running[slot.running]
    }

    fn level(&self, slot: Slot) -> Level {
        let running = self.running(slot);
        let budget = self.accounts[slot.account].budget.clone();
        Level { budget, spent: running.spent, held: running.held }
    }

    fn spent_share(&self, slot: Slot) -> f64 {
        let limit = self.accounts[slot.account].budget.limit;
        budget::share(self.running(slot).spent, limit)
    }

    fn put(&mut self, slot: Slot, level: &Level) {
        let running = self.running_mut(slot);
        running.spent = level.spent;
        running.held = level.held;
        if !running.dirty {
            running.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Thresholds that are reached and were not told yet in this period; from now on they were.
    fn notices(
        &mut self,
        connection: &Connection,
        slot: Slot,
        now: Timestamp,
    ) -> rusqlite::Result<Vec<Notice>> {
        let share = self.spent_share(slot);
        let running = self.running(slot);
        let reached: Vec<f64> = self
            .thresholds
            .iter()
            .copied()
            .filter(|threshold| share >= *threshold && !running.told.contains(threshold))
            .collect();
        let mut notices = Vec::with_capacity(reached.len());
        for threshold in reached {
            let budget = self.accounts[slot.account].budget.clone();
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO notices (node, period, period_start, threshold, time)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    budget.node.to_string(),
                    budget.period.as_str(),
                    rows::nanos(self.running(slot).begin),
                    threshold,
                    rows::nanos(now),
                ])?;
            self.running_mut(slot).told.push(threshold);
            notices.push(Notice { budget, threshold, share });
        }
        Ok(notices)
    }

    /// Every budget of these levels in the period that contains `at`, in the order of the
    /// levels.
    fn slots(
        &mut self,
        connection: &Connection,
        levels: &[Node],
        at: Timestamp,
    ) -> rusqlite::Result<Vec<Slot>> {
        let mut slots = Vec::with_capacity(levels.len());
        for node in levels {
            for &account in self.accounts_of(connection, node)?.iter() {
                slots.push(self.slot(connection, account, at)?);
            }
        }
        Ok(slots)
    }

    fn accounts_of(
        &mut self,
        connection: &Connection,
        node: &Node,
    ) -> rusqlite::Result<Arc<[usize]>> {
        if let Some(known) = self.by_node.get(node) {
            return Ok(known.clone());
        }
        let budgets = read_budgets(connection, node)?;
        let first = self.accounts.len();
        let accounts: Arc<[usize]> = (first..first + budgets.len()).collect();
        let new = budgets.into_iter().map(|budget| Account { budget, running: Vec::new() });
        self.accounts.extend(new);
        self.by_node.insert(node.clone(), accounts.clone());
        Ok(accounts)
    }

    fn slot(
        &mut self,
        connection: &Connection,
        account: usize,
        at: Timestamp,
    ) -> rusqlite::Result<Slot> {
        let known = &self.accounts[account].running;
        let of_at = |running: &Running| running.begin <= at && at < running.end;
        let running = match known.iter().position(of_at) {
            Some(index) => index,
            None => {
                let budget = self.accounts[account].budget.clone();
                let running = read_running(connection, &budget, at, &self.zone)?;
                let known = &mut self.accounts[account].running;
                known.push(running);
                known.len() - 1
            }
        };
        Ok(Slot { account, running })
    }
}

/// A row of `budget show`.
pub(super) fn status_of(level: Level, renews_at: Timestamp) -> BudgetStatus {
    BudgetStatus {
        left: level.left(),
        node: level.budget.node,
        period: level.budget.period,
        limit: level.budget.limit,
        spent: level.spent,
        held: level.held,
        soft: level.budget.soft,
        renews_at,
    }
}

fn delete_hold(connection: &Connection, id: &HoldId, position: i64) -> rusqlite::Result<bool> {
    // Positions may be used again; the name makes sure that this is still our hold.
    let mut delete =
        connection.prepare_cached("DELETE FROM holds WHERE position = ?1 AND id = ?2")?;
    Ok(delete.execute(params![position, id.as_str()])? > 0)
}

fn forget_counters(connection: &Connection, node: &str, period: &str) -> rusqlite::Result<()> {
    for delete in [
        "DELETE FROM counters WHERE node = ?1 AND period = ?2",
        "DELETE FROM notices WHERE node = ?1 AND period = ?2",
    ] {
        connection.execute(delete, params![node, period])?;
    }
    Ok(())
}

/// The holds of a process with their drafts, oldest first.
fn read_holds(
    connection: &Connection,
    process: &ProcessId,
) -> rusqlite::Result<Vec<(HoldId, OpenHold, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT position, id, time, amount, levels, draft FROM holds
         WHERE process = ?1 ORDER BY position",
    )?;
    let holds = statement.query_map([process.as_str()], |row| {
        let mut columns = Columns::of(row);
        let position = columns.get()?;
        let id = columns.id()?;
        let time = columns.time()?;
        let amount = columns.cost()?;
        let levels_json: String = columns.get()?;
        let levels: Vec<Node> = rows::from_json(4, &levels_json)?;
        let hold = OpenHold {
            position,
            time,
            amount,
            levels: levels.into(),
            levels_json: levels_json.into(),
        };
        Ok((id, hold, columns.get()?))
    })?;
    holds.collect()
}

fn read_budgets(connection: &Connection, node: &Node) -> rusqlite::Result<Vec<Budget>> {
    let mut statement = connection
        .prepare_cached("SELECT period, limit_nano, soft FROM budgets WHERE node = ?1")?;
    let budgets = statement.query_map([node.to_string()], |row| {
        let mut columns = Columns::of(row);
        Ok(Budget {
            node: node.clone(),
            period: columns.word(BudgetPeriod::from_word)?,
            limit: columns.cost()?,
            soft: columns.get()?,
        })
    })?;
    let mut budgets = budgets.collect::<rusqlite::Result<Vec<Budget>>>()?;
    budgets.sort_by_key(|budget| budget.period);
    Ok(budgets)
}

/// A budget's counter in the period that contains `at`; one that is missing is counted and kept.
fn read_running(
    connection: &Connection,
    budget: &Budget,
    at: Timestamp,
    zone: &TimeZone,
) -> rusqlite::Result<Running> {
    let (begin, end) = budget::period::bounds(budget.period, at, zone);
    let (node, period) = (budget.node.to_string(), budget.period.as_str());
    let kept = connection
        .prepare_cached(
            "SELECT id, spent, held FROM counters
             WHERE node = ?1 AND period = ?2 AND period_start = ?3",
        )?
        .query_row(params![node, period, rows::nanos(begin)], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.get()?, columns.cost()?, columns.cost()?))
        })
        .optional()?;
    let (counter, spent, held) = match kept {
        Some(kept) => kept,
        None => {
            let (spent, held) = count_anew(connection, &budget.node, begin, end)?;
            connection
                .prepare_cached(
                    "INSERT INTO counters (node, period, period_start, spent, held)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![node, period, rows::nanos(begin), spent.nanos(), held.nanos()])?;
            (connection.last_insert_rowid(), spent, held)
        }
    };
    let told = connection
        .prepare_cached(
            "SELECT threshold FROM notices
             WHERE node = ?1 AND period = ?2 AND period_start = ?3",
        )?
        .query_map(params![node, period, rows::nanos(begin)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<f64>>>()?;
    Ok(Running { counter, begin, end, spent, held, told, dirty: false })
}

/// What rows and open holds of this span say that a node has spent and holds.
fn count_anew(
    connection: &Connection,
    node: &Node,
    begin: Timestamp,
    end: Timestamp,
) -> rusqlite::Result<(Cost, Cost)> {
    // `instr` finds the candidates quickly; `json_each` makes sure, since a name may contain
    // what looks like another node.
    const SPENT: &str = "\
        SELECT cost_nano FROM ledger
        WHERE time >= ?1 AND time < ?2 AND instr(levels, ?3) > 0
          AND EXISTS (SELECT 1 FROM json_each(ledger.levels) WHERE value = ?4)";
    const HELD: &str = "\
        SELECT amount FROM holds
        WHERE time >= ?1 AND time < ?2 AND instr(levels, ?3) > 0
          AND EXISTS (SELECT 1 FROM json_each(holds.levels) WHERE value = ?4)";
    let sum = |query: &str| -> rusqlite::Result<Cost> {
        let (written, quoted) = (node.to_string(), rows::to_json(node)?);
        let span = params![rows::nanos(begin), rows::nanos(end), quoted, written];
        let mut statement = connection.prepare_cached(query)?;
        let costs = statement.query_map(span, |row| row.get(0).map(Cost::from_nanos))?;
        costs.sum()
    };
    Ok((sum(SPENT)?, sum(HELD)?))
}
