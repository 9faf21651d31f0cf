//! Whether a network card would take an object: the rules of Netronome's driver (`nfp`, the
//! `verifier.c`, `jit.c` and `offload.c` of Linux 6.12), which is the only one that runs XDP programs
//! in the card. Its verifier is a part of the driver, and looks at nothing without a card; so what it
//! asks for is looked at here.
//!
//! What depends on the card's firmware, which tells the driver (instructions, stack, maps, bytes of an
//! element), is set here to what seems small for one; no card was asked. In some ways this is stricter than the driver: no functions, no helper but the look-up, no
//! offset in the packet that is not known beforehand, no pointer of which an instruction knows only
//! on some ways where it points to.

mod breach;
mod flow;
mod instruction;
mod object;
mod step;
mod value;

use std::{fs, path::Path};

use anyhow::{Context as _, bail};

pub use self::{breach::Breach, object::Offloaded};
use crate::workspace;

/// Most instructions of a program.
const LONGEST: usize = 4096;

/// Bytes of the stack.
const STACK: i32 = 512;

/// Most bytes of key and value together, each in units of eight.
const ELEMENT: u32 = 64;

/// Most maps of a program.
const MAPS: usize = 8;

/// What was found of a program that keeps all rules.
#[derive(Debug, PartialEq, Eq)]
pub struct Figures {
    pub instructions: usize,
    /// Bytes of stack that are used.
    pub stack: i32,
    pub maps: usize,
}

/// Holds a program and its maps against the rules.
///
/// # Errors
/// All that is against one of them.
pub fn check(offloaded: &Offloaded) -> Result<Figures, Vec<Breach>> {
    let mut breaches = maps(&offloaded.maps);
    let instructions = &offloaded.instructions;
    let mut refuse = |what: String| breaches.push(Breach { at: None, what });
    if instructions.len() > LONGEST {
        refuse(format!("{} instructions, of which a card has room for {LONGEST}", instructions.len()));
    }
    let mut stack = 0;
    match flow::order(instructions) {
        Ok(order) => {
            let (found, depth) = flow::walk(offloaded, &order);
            stack = depth;
            if depth > STACK {
                refuse(format!("{depth} bytes of stack, of which a card has {STACK}"));
            }
            breaches.extend(found);
        }
        Err(breach) => breaches.push(breach),
    }
    if breaches.is_empty() {
        Ok(Figures { instructions: instructions.len(), stack, maps: offloaded.maps.len() })
    } else {
        Err(breaches)
    }
}

fn maps(maps: &[object::Map]) -> Vec<Breach> {
    const HASH: u32 = 1;
    const ARRAY: u32 = 2;
    let mut breaches = Vec::new();
    let mut refuse = |what: String| breaches.push(Breach { at: None, what });
    if maps.len() > MAPS {
        refuse(format!("{} maps, of which a card has {MAPS}", maps.len()));
    }
    for map in maps {
        let name = &map.name;
        if map.kind != HASH && map.kind != ARRAY {
            refuse(format!("map {name}: type {}, which is neither a hash table nor an array", map.kind));
        }
        if map.flags != 0 {
            refuse(format!("map {name}: flags {:#x}", map.flags));
        }
        let element = map.key.next_multiple_of(8) + map.value.next_multiple_of(8);
        if element > ELEMENT {
            refuse(format!("map {name}: {element} bytes of key and value, of which a card has room for {ELEMENT}"));
        }
    }
    breaches
}

/// The same for a file.
pub fn check_file(path: &Path) -> anyhow::Result<Figures> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", workspace::display(path)))?;
    let offloaded = Offloaded::parse(&bytes).with_context(|| format!("in {}", workspace::display(path)))?;
    check(&offloaded).or_else(|breaches| {
        let lines: Vec<_> = breaches.iter().map(|breach| format!("  {breach}")).collect();
        bail!("no card would take {}:\n{}", workspace::display(path), lines.join("\n"))
    })
}

#[cfg(test)]
mod tests;
