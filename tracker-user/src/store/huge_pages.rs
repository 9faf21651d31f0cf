//! Pages of 2 MiB for a store in ordinary memory (`--huge-pages`), and what is logged of them.
//!
//! An announce looks at some pages at random places of the store. Of pages of 4 KiB the processor
//! knows the places of one or two thousand; the others it looks up in tables in memory first. The
//! maps of the XDP program cannot have larger ones: the kernel takes their memory in pages of 4 KiB.

use super::Store;
use std::fs;
use tracing::{info, warn};

/// Where the kernel says who gets huge pages (Linux, `admin-guide/mm/transhuge.rst`).
const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Asks for huge pages for a store in ordinary memory, and logs what came of it.
pub fn ask(store: &Store) {
    let enabled = fs::read_to_string(ENABLED);
    match store.advise_huge_pages() {
        Err(error) => warn!("--huge-pages: the kernel refuses ({error}); the store has pages of 4 KiB"),
        Ok(()) if enabled.is_ok_and(|choice| is_never(&choice)) => warn!(
            "--huge-pages: {ENABLED} says never, so the store has pages of 4 KiB; \
             `echo madvise > {ENABLED}` lets it have larger ones after a restart"
        ),
        Ok(()) => info!("--huge-pages: memory of the store is taken in pages of 2 MiB where the kernel has them free"),
    }
}

/// Says that a store in maps has none.
pub fn say_that_maps_have_none() {
    warn!("--huge-pages has no effect with XDP: the kernel takes the memory of its maps in pages of 4 KiB");
}

/// Reads the choice, which stands in brackets: `always madvise [never]`.
fn is_never(choice: &str) -> bool {
    choice.split_whitespace().any(|word| word == "[never]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_chosen_is_in_brackets() {
        for (choice, expected) in [
            ("always madvise [never]\n", true),
            ("always [madvise] never\n", false),
            ("[always] madvise never\n", false),
            ("never\n", false),
            ("", false),
        ] {
            assert_eq!(is_never(choice), expected, "{choice:?}");
        }
    }
}
