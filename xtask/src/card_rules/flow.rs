//! The ways through a program: none of them leads back, so each instruction is looked at once, when
//! everything is known that leads to it.

use super::{
    breach::Breach,
    instruction::{CALL, EXIT, Instruction, JMP, JMP32, JUMP, LD_IMM64},
    object::Offloaded,
    step::Step,
    value::State,
};

/// The instructions that can follow the one with this number.
fn next(instructions: &[Instruction], at: usize) -> Vec<i64> {
    let instruction = instructions[at];
    let after = at as i64 + 1;
    let jump = after + i64::from(instruction.offset);
    match (instruction.class(), instruction.code) {
        (_, EXIT) => vec![],
        (_, LD_IMM64) => vec![after + 1],
        (_, CALL) => vec![after],
        (_, JUMP) => vec![jump],
        (JMP | JMP32, _) => vec![after, jump],
        _ => vec![after],
    }
}

/// The instructions that can be reached, each behind all that lead to it.
///
/// # Errors
/// Where one leads back, or out of the program.
pub fn order(instructions: &[Instruction]) -> Result<Vec<usize>, Breach> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let breach = |at, what: &str| Breach { at: Some(at), what: what.to_owned() };
    let mut marks = vec![Mark::New; instructions.len()];
    let mut order = Vec::new();
    if instructions.is_empty() {
        return Err(Breach { at: None, what: "there is no program".to_owned() });
    }
    let mut open = vec![(0, next(instructions, 0))];
    marks[0] = Mark::Open;
    while let Some((at, following)) = open.last_mut() {
        let at = *at;
        let Some(to) = following.pop() else {
            marks[at] = Mark::Done;
            order.push(at);
            open.pop();
            continue;
        };
        let Some(to) = usize::try_from(to).ok().filter(|to| *to < instructions.len()) else {
            return Err(breach(at, "it leads out of the program"));
        };
        match marks[to] {
            Mark::Open => return Err(breach(at, "a loop, for which cards have no instructions")),
            Mark::Done => {}
            Mark::New => {
                marks[to] = Mark::Open;
                open.push((to, next(instructions, to)));
            }
        }
    }
    order.reverse();
    Ok(order)
}

/// Looks at all instructions in this order. Returns what is against the rules, and how many bytes of
/// stack are used.
pub fn walk(offloaded: &Offloaded, order: &[usize]) -> (Vec<Breach>, i32) {
    let mut states: Vec<Option<State>> = vec![None; offloaded.instructions.len()];
    states[0] = Some(State::new());
    let mut step = Step::new(&offloaded.maps);
    for &at in order {
        let Some(mut state) = states[at].take() else { continue };
        step.take(at, offloaded.instructions[at], &mut state);
        for to in next(&offloaded.instructions, at) {
            let to = usize::try_from(to).expect("order() has looked at it");
            match &mut states[to] {
                Some(there) => there.join(&state),
                place => *place = Some(state.clone()),
            }
        }
    }
    step.found()
}
