//! What stands in for `core::sync::atomic` when the sources of `tracker-common` are compiled for a
//! model checker: the same names over the same memory, but before each access somebody else may go
//! on.
//!
//! The store's words lie in zeroed memory and have sizes that are asserted, so the checkers' own
//! atomic types cannot take their place. With shuttle they need not: its threads take turns on one
//! thread of the system, so an access is a decision who goes on, and then an ordinary access: all
//! accesses are in one order. Loom also explores what weaker orders allow, for which it has to know
//! of every access; there each word is looked up by its address and has an atomic of loom's beside
//! it, which begins with what the word held.
//!
//! Off unless a test has switched it on for its thread ([`with`]): preparing a store is not what is
//! to be explored.

pub use core::sync::atomic::Ordering;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
    time::Duration,
};

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checker {
    /// Nobody: plain accesses.
    None,
    /// Shuttle: schedules.
    Shuttle,
    /// Loom: schedules and memory orders.
    Loom,
}

thread_local! {
    // Of the thread of the system, which all threads of a model share.
    static CHECKER: Cell<Checker> = const { Cell::new(Checker::None) };
    static WORDS_64: RefCell<HashMap<usize, Arc<loom::sync::atomic::AtomicU64>>> = RefCell::default();
    static WORDS_32: RefCell<HashMap<usize, Arc<loom::sync::atomic::AtomicU32>>> = RefCell::default();
}

/// Ends what [`with`] began.
#[derive(Debug)]
pub struct Switched(());

impl Drop for Switched {
    fn drop(&mut self) {
        CHECKER.set(Checker::None);
        forget();
    }
}

/// Has this checker decide until the value returned is dropped.
#[must_use]
pub fn with(checker: Checker) -> Switched {
    CHECKER.set(checker);
    forget();
    Switched(())
}

/// Does something that no checker decides about: memory that is made and then moved.
pub fn without<T>(work: impl FnOnce() -> T) -> T {
    let before = CHECKER.replace(Checker::None);
    let result = work();
    CHECKER.set(before);
    result
}

/// Forgets the atomics of loom's last execution.
fn forget() {
    WORDS_64.with_borrow_mut(HashMap::clear);
    WORDS_32.with_borrow_mut(HashMap::clear);
}

/// Called where a thread waits for another: lets the others go on first.
pub fn wait() {
    match CHECKER.get() {
        Checker::None => std::thread::yield_now(),
        Checker::Shuttle => shuttle::thread::yield_now(),
        Checker::Loom => loom::thread::yield_now(),
    }
}

/// As `core::sync::atomic::fence`.
pub fn fence(order: Ordering) {
    match CHECKER.get() {
        Checker::Loom => loom::sync::atomic::fence(order),
        // Shuttle has one order of all accesses anyway.
        Checker::None | Checker::Shuttle => core::sync::atomic::fence(order),
    }
}

/// Somebody else may go on here.
fn turn() {
    if CHECKER.get() == Checker::Shuttle {
        // To shuttle this is a decision without an advantage for anybody.
        shuttle::thread::sleep(Duration::ZERO);
    }
}

macro_rules! atomic {
    ($(#[$doc:meta])* $name:ident, $int:ty, $words:ident) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name(core::sync::atomic::$name);

        impl $name {
            /// As the function of this name in `core::sync::atomic`.
            ///
            /// # Safety
            /// As there.
            pub unsafe fn from_ptr<'a>(pointer: *mut $int) -> &'a Self {
                // SAFETY: the caller's promise; this type is nothing but the other one.
                unsafe { &*pointer.cast::<Self>() }
            }

            /// Loom's atomic for this word.
            fn modelled(&self) -> Option<Arc<loom::sync::atomic::$name>> {
                if CHECKER.get() != Checker::Loom {
                    return None;
                }
                let address = core::ptr::from_ref(self).addr();
                let known = $words.with_borrow(|words| words.get(&address).cloned());
                Some(known.unwrap_or_else(|| {
                    let word = Arc::new(loom::sync::atomic::$name::new(self.0.load(Ordering::Relaxed)));
                    $words.with_borrow_mut(|words| words.insert(address, word.clone()));
                    word
                }))
            }

            /// As in `core::sync::atomic`.
            pub fn load(&self, order: Ordering) -> $int {
                if let Some(word) = self.modelled() {
                    return word.load(order);
                }
                turn();
                self.0.load(order)
            }

            /// As in `core::sync::atomic`.
            pub fn store(&self, value: $int, order: Ordering) {
                if let Some(word) = self.modelled() {
                    return word.store(value, order);
                }
                turn();
                self.0.store(value, order);
            }

            /// As in `core::sync::atomic`.
            pub fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                if let Some(word) = self.modelled() {
                    return word.fetch_add(value, order);
                }
                turn();
                self.0.fetch_add(value, order)
            }

            /// As in `core::sync::atomic`.
            ///
            /// # Errors
            /// As there.
            pub fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                if let Some(word) = self.modelled() {
                    return word.compare_exchange(current, new, success, failure);
                }
                turn();
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    };
}

atomic!(
    /// In place of `core::sync::atomic::AtomicU64`.
    AtomicU64,
    u64,
    WORDS_64
);
atomic!(
    /// In place of `core::sync::atomic::AtomicU32`.
    AtomicU32,
    u32,
    WORDS_32
);
