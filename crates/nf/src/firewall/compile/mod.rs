//! From what a file says to what is evaluated.

mod rule;
mod set;
mod value;

pub(super) use value::PORTS;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::limit::{Allowance, Bucket};
use super::rules::{Base, Chain, Count, Named, Rules};
use super::syntax::ast::{
    Command, Element, Family, Hook, Item, Name, ObjectState, Policy, Rule, Set, TableName,
};
use super::syntax::{Complaint, Sources, Span};

/// Jumps within each other, as in the kernel.
pub(super) const MOST_JUMPS: usize = 16;
/// Where connection tracking stands among the chains of prerouting, those of bridges included.
const CONNTRACK: i32 = -200;
/// Chains that there may be.
const MOST_CHAINS: usize = 4096;

type Fault = (Span, Complaint);
type Compiled<T> = Result<T, Fault>;

/// Makes rules of commands.
pub(super) fn compile(
    commands: Vec<Command>,
    sources: &Sources,
    ports: &[String; 2],
) -> Compiled<Rules> {
    let mut model = Model::default();
    for command in commands {
        model.apply(command)?;
    }
    let mut compiler = Compiler {
        sources,
        ports,
        rules: Rules::default(),
        chains: BTreeMap::new(),
        sets: BTreeMap::new(),
        counters: BTreeMap::new(),
        limits: BTreeMap::new(),
        quotas: BTreeMap::new(),
        family: Family::Inet,
        table: String::new(),
        jumps: Vec::new(),
    };
    compiler.tables(&model)?;
    Ok(compiler.rules)
}

/// All tables as the commands left them, in the order in which they were made.
#[derive(Default)]
struct Model {
    tables: Vec<Table>,
}

struct Table {
    family: Family,
    name: String,
    chains: Vec<ChainModel>,
    sets: Vec<Set>,
    objects: Vec<(Name, ObjectState)>,
}

struct ChainModel {
    name: Name,
    base: Option<super::syntax::ast::Base>,
    policy: Option<Policy>,
    rules: Vec<Rule>,
}

impl Model {
    fn apply(&mut self, command: Command) -> Compiled<()> {
        match command {
            Command::FlushRuleset => self.tables.clear(),
            Command::FlushTable(name) => {
                for chain in &mut self.table(&name)?.chains {
                    chain.rules.clear();
                }
            }
            Command::FlushChain(name, chain) => {
                let table = self.table(&name)?;
                table.chain(&chain)?.rules.clear();
            }
            Command::DeleteTable { table, must_exist } => {
                if must_exist {
                    self.table(&table)?;
                }
                self.tables
                    .retain(|t| t.family != table.family || t.name != table.name.node);
            }
            Command::Table(name, items) => {
                if self.table(&name).is_err() {
                    self.tables.push(Table {
                        family: name.family,
                        name: name.name.node.clone(),
                        chains: Vec::new(),
                        sets: Vec::new(),
                        objects: Vec::new(),
                    });
                }
                let table = self.table(&name)?;
                for item in items {
                    table.add(item)?;
                }
            }
            Command::Add(name, item) => self.table(&name)?.add(item)?,
        }
        Ok(())
    }

    fn table(&mut self, name: &TableName) -> Compiled<&mut Table> {
        let found = self
            .tables
            .iter_mut()
            .find(|t| t.family == name.family && t.name == name.name.node);
        found.ok_or_else(|| {
            let (family, node) = (name.family.name(), &name.name.node);
            let what = format!("there is no table {family} {node} up to here");
            let help = format!("write `table {family} {node}` before it");
            (name.name.span, Complaint::with_help(what, help))
        })
    }
}

impl Table {
    fn chain(&mut self, name: &Name) -> Compiled<&mut ChainModel> {
        let mut chains = self.chains.iter_mut();
        let found = chains.find(|chain| chain.name.node == name.node);
        found.ok_or_else(|| {
            let what = format!("there is no chain {} in this table", name.node);
            (name.span, Complaint::new(what))
        })
    }

    fn add(&mut self, item: Item) -> Compiled<()> {
        match item {
            Item::Chain(new) => {
                if self.chain(&new.name).is_err() {
                    self.chains.push(ChainModel {
                        name: new.name.clone(),
                        base: None,
                        policy: None,
                        rules: Vec::new(),
                    });
                }
                let chain = self.chain(&new.name)?;
                if let Some(base) = new.base {
                    if let Some(old) = &chain.base
                        && (old.hook, old.priority) != (base.hook, base.priority)
                    {
                        let what = "this chain has another hook or priority already";
                        return Err((base.span, Complaint::new(what)));
                    }
                    chain.base = Some(base);
                }
                if let Some(policy) = new.policy {
                    if chain.base.is_none() {
                        let what = "only a chain with a hook has a policy";
                        let help = "write `type filter hook forward priority filter;` before it";
                        return Err((policy.span, Complaint::with_help(what, help)));
                    }
                    chain.policy = Some(policy.node);
                }
                chain.rules.extend(new.rules);
            }
            Item::Rule { chain, rule, first } => {
                let rules = &mut self.chain(&chain)?.rules;
                rules.insert(if first { 0 } else { rules.len() }, rule);
            }
            Item::Set(new) => {
                let mut sets = self.sets.iter_mut();
                match sets.find(|set| set.name.node == new.name.node) {
                    None => self.sets.push(new),
                    Some(old) if old.key == new.key && old.is_map == new.is_map => {
                        old.elements.extend(new.elements);
                    }
                    Some(_) => {
                        let what = format!("the set {} has another type already", new.name.node);
                        return Err((new.name.span, Complaint::new(what)));
                    }
                }
            }
            Item::Elements(name, elements) => self.elements(&name, elements)?,
            Item::Object(object) => self.objects.push((object.name, object.state)),
        }
        Ok(())
    }

    fn elements(&mut self, name: &Name, elements: Vec<Element>) -> Compiled<()> {
        let mut sets = self.sets.iter_mut();
        match sets.find(|set| set.name.node == name.node) {
            Some(set) => {
                set.elements.extend(elements);
                Ok(())
            }
            None => {
                let what = format!("there is no set {} in this table", name.node);
                Err((name.span, Complaint::new(what)))
            }
        }
    }
}

/// Numbers of what has names, by table.
type Names = BTreeMap<(Family, String, String), usize>;

struct Compiler<'a> {
    sources: &'a Sources,
    ports: &'a [String; 2],
    rules: Rules,
    chains: Names,
    sets: Names,
    counters: Names,
    limits: Names,
    quotas: Names,
    /// The table of which rules are being read.
    family: Family,
    table: String,
    /// From which chain to which, and where that is written.
    jumps: Vec<(usize, usize, Span)>,
}

impl Compiler<'_> {
    fn tables(&mut self, model: &Model) -> Compiled<()> {
        for table in &model.tables {
            (self.family, self.table) = (table.family, table.name.clone());
            for chain in &table.chains {
                self.declare(chain)?;
            }
        }
        for table in &model.tables {
            (self.family, self.table) = (table.family, table.name.clone());
            for (name, state) in &table.objects {
                self.object(name, *state)?;
            }
            for set in &table.sets {
                self.named_set(set)?;
            }
        }
        for table in &model.tables {
            (self.family, self.table) = (table.family, table.name.clone());
            for chain in &table.chains {
                let number = self.number_of(&chain.name)?;
                let mut seen = BTreeMap::new();
                for rule in &chain.rules {
                    let rule = self.rule(number, rule, &mut seen)?;
                    self.rules.chains[number].rules.push(rule);
                }
            }
        }
        self.order();
        self.depth()
    }

    fn key(&self, name: &str) -> (Family, String, String) {
        (self.family, self.table.clone(), name.to_string())
    }

    fn place(&self, span: Span) -> String {
        let (file, line) = self.sources.line(span);
        format!("{file}:{line}")
    }

    fn declare(&mut self, chain: &ChainModel) -> Compiled<()> {
        if self.rules.chains.len() >= MOST_CHAINS {
            return Err((chain.name.span, Complaint::new("more than 4096 chains")));
        }
        let number = self.rules.chains.len();
        self.chains.insert(self.key(&chain.name.node), number);
        let base = chain.base.as_ref().map(|base| Base {
            hook: base.hook,
            priority: base.priority,
            drops: chain.policy == Some(Policy::Drop),
            place: self.place(base.span),
        });
        self.rules.chains.push(Chain {
            family: self.family,
            table: self.table.clone(),
            name: chain.name.node.clone(),
            base,
            rules: Vec::new(),
        });
        Ok(())
    }

    fn number_of(&self, name: &Name) -> Compiled<usize> {
        match self.chains.get(&self.key(&name.node)) {
            Some(number) => Ok(*number),
            None => {
                let what = format!("there is no chain {} in this table", name.node);
                Err((name.span, Complaint::new(what)))
            }
        }
    }

    fn object(&mut self, name: &Name, state: ObjectState) -> Compiled<()> {
        let key = self.key(&name.node);
        let shown = format!("{} {} {}", self.family.name(), self.table, name.node);
        let identity = format!("{shown} {state}");
        let old = match state {
            ObjectState::Counter { packets, bytes } => {
                let identity = shown.clone();
                let start = Count { packets, bytes };
                let number = self.rules.counters.len();
                self.rules.counters.push(Named {
                    identity,
                    name: shown,
                    start,
                });
                self.counters.insert(key, number)
            }
            ObjectState::Limit(limit) => {
                let number = self.rules.limits.len();
                self.rules.limits.push(Named {
                    identity,
                    name: shown,
                    start: Bucket::new(limit),
                });
                self.limits.insert(key, number)
            }
            ObjectState::Quota(quota) => {
                let number = self.rules.quotas.len();
                self.rules.quotas.push(Named {
                    identity,
                    name: shown,
                    start: Allowance::new(quota),
                });
                self.quotas.insert(key, number)
            }
        };
        match old {
            None => Ok(()),
            Some(_) => {
                let what = format!("{} is declared already", name.node);
                Err((name.span, Complaint::new(what)))
            }
        }
    }

    /// Puts the base chains into the order in which packets meet them.
    fn order(&mut self) {
        let mut order: Vec<_> = self.rules.chains.iter().enumerate().collect();
        order.retain(|(_, chain)| chain.base.is_some());
        order.sort_by_key(|(number, chain)| {
            let hook = chain.base.as_ref().map(|base| (base.hook, base.priority));
            let behind_bridge = chain.family != Family::Bridge;
            (hook.map(|h| h.0), behind_bridge, hook.map(|h| h.1), *number)
        });
        let is_before = |chain: &Chain| {
            let base = chain.base.as_ref();
            base.is_some_and(|b| b.hook == Hook::Prerouting && b.priority < CONNTRACK)
        };
        let (before, after): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|(_, chain)| is_before(chain));
        let numbers = |chains: Vec<(usize, &Chain)>| chains.iter().map(|c| c.0).collect();
        let (before, after) = (numbers(before), numbers(after));
        (self.rules.before, self.rules.after) = (before, after);
    }

    /// Refuses jumps in circles, and those deeper than the kernel follows.
    fn depth(&self) -> Compiled<()> {
        let chains = self.rules.chains.len();
        // How deep below each chain it goes, once that is known, one round per level.
        let mut depth = vec![0; chains];
        for _ in 0..=MOST_JUMPS {
            let mut changed = None;
            for (from, to, span) in &self.jumps {
                if depth[*from] < depth[*to] + 1 {
                    depth[*from] = depth[*to] + 1;
                    changed = Some(*span);
                }
            }
            let Some(span) = changed else {
                return Ok(());
            };
            if depth.iter().any(|depth| *depth >= MOST_JUMPS) {
                let what = "chains jump in a circle, or more than 15 deep";
                return Err((span, Complaint::new(what)));
            }
        }
        Ok(())
    }
}
