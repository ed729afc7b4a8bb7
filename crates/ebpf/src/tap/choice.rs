//! Which packets are chosen: a filter, and rules in order of priority.

use super::cbpf::Program;

/// What becomes of the packets that a program matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// They are chosen; else they are left out.
    pub include: bool,
    /// Which packets; all without.
    pub program: Option<Program>,
}

/// Which packets are chosen: those of the filter that the rules take, too. The first rule that
/// matches a packet decides. What no rule matches is left out if there is a rule that includes, and
/// chosen otherwise. The default is all packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// What every chosen packet matches.
    pub filter: Option<Program>,
    /// Rules, the one of highest priority first.
    pub rules: Vec<Rule>,
}

impl From<Option<Program>> for Choice {
    fn from(filter: Option<Program>) -> Self {
        Self {
            filter,
            rules: Vec::new(),
        }
    }
}

impl Choice {
    /// Whether what no rule matches is chosen.
    pub fn chooses_others(&self) -> bool {
        self.rules.iter().all(|rule| !rule.include)
    }

    /// Says what the program in the kernel says of a packet of `len` bytes, of which `data` is
    /// known. A program that looks behind the end of the packet does not match it.
    pub fn chooses(&self, data: &[u8], len: u32) -> bool {
        let matches = |program: &Option<Program>| {
            program
                .as_ref()
                .is_none_or(|program| program.run(data, len) != 0)
        };
        let mut rules = self.rules.iter();
        matches(&self.filter)
            && rules
                .find(|rule| matches(&rule.program))
                .map_or(self.chooses_others(), |rule| rule.include)
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::compile;
    use super::*;

    fn rule(include: bool, text: &str) -> Rule {
        Rule {
            include,
            program: compile(text).expect("a filter"),
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let choice = |rules: &[Rule]| Choice {
            filter: None,
            rules: rules.to_vec(),
        };
        let (short, long) = ([0u8; 60], [0u8; 100]);
        let both = |choice: &Choice| (choice.chooses(&short, 60), choice.chooses(&long, 100));
        let long_ones = rule(true, "len > 80");
        let no_long_ones = rule(false, "len > 80");
        let all = rule(true, "");
        let none = rule(false, "");
        assert_eq!(both(&choice(&[])), (true, true));
        assert_eq!(
            both(&choice(core::slice::from_ref(&long_ones))),
            (false, true)
        );
        assert_eq!(
            both(&choice(core::slice::from_ref(&no_long_ones))),
            (true, false)
        );
        assert_eq!(
            both(&choice(&[no_long_ones.clone(), all.clone()])),
            (true, false)
        );
        assert_eq!(
            both(&choice(&[all, no_long_ones.clone()])),
            (true, true),
            "the first decides"
        );
        assert_eq!(both(&choice(&[long_ones.clone(), none])), (false, true));
        assert_eq!(
            both(&choice(&[no_long_ones, long_ones])),
            (false, false),
            "with a rule that includes, the rest is left out"
        );
    }

    #[test]
    fn a_packet_has_to_pass_the_filter_and_the_rules() {
        let choice = Choice {
            filter: compile("len > 50").expect("a filter"),
            rules: vec![rule(false, "len > 80")],
        };
        let chosen = [40, 60, 100].map(|len| choice.chooses(&[0; 100][..len as usize], len));
        assert_eq!(chosen, [false, true, false]);
    }

    #[test]
    fn a_rule_that_looks_behind_the_end_leaves_it_to_the_next_one() {
        let choice = Choice {
            filter: None,
            rules: vec![rule(false, "ether[200] = 0"), rule(true, "ether[0] = 0")],
        };
        assert!(choice.chooses(&[0; 60], 60));
        assert!(!choice.chooses(&[0; 250], 250));
    }
}
