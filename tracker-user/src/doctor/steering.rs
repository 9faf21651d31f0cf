//! What rules of the card do with packets to the tracker's port (n-tuple), and how it is given queues
//! of its own. The tracker sets no rules itself: see docs/offload.md.

use super::{card::Card, finding::Finding};
use crate::xdp::ethtool::{Rule, Target};

const CODE: &str = "steering";

/// What is to be said of each family.
#[must_use]
pub fn findings(card: &Card, port: u16) -> Vec<Finding> {
    // With one queue nothing is chosen.
    let Some([queues, _]) = card.queues.filter(|[now, _]| *now > 1) else { return Vec::new() };
    let Some(rules) = &card.rules else {
        let text = "The driver takes no rules that give a port queues of its own, so the tracker shares all of them";
        return vec![Finding::good(CODE, text, "").of(&card.name)];
    };
    let ours: Vec<_> = rules.iter().filter(|rule| rule.port == port).collect();
    let mut found: Vec<_> = ours.iter().filter_map(|rule| wrong(card, &ours, **rule)).collect();
    if found.is_empty() {
        found.push(if ours.is_empty() {
            let text = "No rule gives the tracker's port queues of its own, which pays only if this machine does other work, too";
            Finding::good(CODE, text, "").command(commands(&card.name, port, queues))
        } else {
            Finding::good(CODE, "Rules of the card give the tracker's port several queues", numbers(&ours))
        });
    }
    found.into_iter().map(|finding| finding.of(&card.name)).collect()
}

fn flow(rule: Rule) -> &'static str {
    if rule.v6 { "udp6" } else { "udp4" }
}

fn numbers(rules: &[&Rule]) -> String {
    let one = |rule: &&Rule| format!("{}: {}", flow(**rule), rule.number);
    rules.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What a rule does that it should not.
fn wrong(card: &Card, all: &[&Rule], rule: Rule) -> Option<Finding> {
    let value = format!("{}, rule {}", flow(rule), rule.number);
    let remedy = format!("ethtool -N {} delete {}", card.name, rule.number);
    match rule.target {
        Target::Drop => {
            let text = "A rule has the card drop packets to the tracker's port";
            Some(Finding::problem(CODE, text, value).command(remedy))
        }
        // Several rules may share the work by addresses.
        Target::Queue(_) if card.cores > 1 && all.iter().filter(|other| other.v6 == rule.v6).count() == 1 => {
            let text = "A rule sends all packets to the tracker's port to one queue, so one core does all the work";
            Some(Finding::advice(CODE, text, value).command(remedy))
        }
        Target::Queue(_) | Target::Context(_) => None,
    }
}

/// What gives the port the upper half of the queues, and everything else the lower one.
fn commands(interface: &str, port: u16, queues: u32) -> String {
    let first = queues / 2;
    let own = queues - first;
    let rule = |flow: &str| format!("ethtool -N {interface} flow-type {flow} dst-port {port} context 1");
    format!(
        "ethtool -X {interface} context new start {first} equal {own} && {} && {} && ethtool -X {interface} equal {first}    # the \
         first one prints the context's number",
        rule("udp4"),
        rule("udp6")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    fn rule(number: u32, v6: bool, port: u16, target: Target) -> Rule {
        Rule { number, v6, port, target }
    }

    fn card(queues: u32, rules: Option<Vec<Rule>>) -> Card {
        Card { name: "eth0".into(), queues: Some([queues, 64]), cores: 8, rules, ..Card::default() }
    }

    #[test]
    fn rules_that_keep_packets_from_the_cores_are_found_and_others_left() {
        use Severity::{Advice, Good, Problem};
        use Target::{Context, Drop, Queue};
        let (v4, v6) = (false, true);
        // (rules, how bad each thing is that is said)
        let rows: [(&[Rule], &[Severity]); 9] = [
            (&[], &[Good]),
            (&[rule(1, v4, 53, Drop), rule(2, v4, 80, Queue(0))], &[Good]),
            (&[rule(1, v4, 6969, Context(1)), rule(2, v6, 6969, Context(1))], &[Good]),
            (&[rule(1, v4, 6969, Queue(0)), rule(2, v4, 6969, Queue(1))], &[Good]),
            (&[rule(1, v4, 6969, Queue(0))], &[Advice]),
            (&[rule(1, v4, 6969, Queue(0)), rule(2, v6, 6969, Queue(1))], &[Advice, Advice]),
            (&[rule(1, v4, 6969, Context(1)), rule(2, v6, 6969, Queue(1))], &[Advice]),
            (&[rule(1, v4, 6969, Drop)], &[Problem]),
            (&[rule(1, v6, 6969, Drop), rule(2, v4, 6969, Context(1))], &[Problem]),
        ];
        for (rules, expected) in rows {
            let found = findings(&card(4, Some(rules.to_vec())), 6969);
            let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
            assert_eq!(severities, expected, "{rules:?}: {found:?}");
            let is_told_how = |finding: &Finding| finding.severity == Good || finding.command.is_some();
            assert!(found.iter().all(|finding| is_told_how(finding) && !finding.tuned), "{found:?}");
        }
        // Without a choice nothing is said; without rules, that there are none.
        assert_eq!(findings(&card(1, Some(vec![rule(1, v4, 6969, Drop)])), 6969), []);
        assert_eq!(findings(&Card { queues: None, ..card(4, Some(Vec::new())) }, 6969), []);
        let found = findings(&card(4, None), 6969);
        assert!(found.len() == 1 && found[0].severity == Good && found[0].text.contains("takes no rules"), "{found:?}");
        let one_core = Card { cores: 1, ..card(4, Some(vec![rule(1, v4, 6969, Queue(0))])) };
        assert_eq!(findings(&one_core, 6969)[0].severity, Good);
    }

    #[test]
    fn commands_are_for_this_interface_and_its_queues() {
        // (queues, the tracker's, the others')
        for (queues, own, others) in
            [(2, "start 1 equal 1", 1), (5, "start 2 equal 3", 2), (64, "start 32 equal 32", 32)]
        {
            let command = findings(&card(queues, Some(Vec::new())), 7070)[0].command.clone().expect("a command");
            for part in [
                format!("ethtool -X eth0 context new {own} && "),
                "ethtool -N eth0 flow-type udp4 dst-port 7070 context 1 && ".into(),
                "ethtool -N eth0 flow-type udp6 dst-port 7070 context 1 && ".into(),
                format!("ethtool -X eth0 equal {others} "),
            ] {
                assert!(command.contains(&part), "{queues}: {part:?} in {command}");
            }
        }
        let dropping = findings(&card(4, Some(vec![rule(1023, false, 6969, Target::Drop)])), 6969);
        assert_eq!(dropping[0].command.as_deref(), Some("ethtool -N eth0 delete 1023"));
    }
}
