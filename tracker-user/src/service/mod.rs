//! Services: work that goes on in threads of its own from the start to the end. [`Shutdown`] tells
//! them to end.

mod shutdown;

pub use shutdown::Shutdown;

use anyhow::Context as _;
use std::thread;

/// Work for a thread of its own.
pub trait Service: Send + 'static {
    /// The name of the thread. The kernel shows 15 bytes of it.
    fn name(&self) -> String;

    /// Works until `shutdown` begins.
    ///
    /// # Errors
    /// When the work cannot go on. The error is logged, so it says what has ended; the others go
    /// on.
    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()>;
}

/// Services that end together: when this is dropped, it tells them and waits for them.
#[derive(Default)]
pub struct Services {
    shutdown: Shutdown,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Services {
    /// Starts a service.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn spawn(&mut self, service: impl Service) -> anyhow::Result<()> {
        let name = service.name();
        let shutdown = self.shutdown.clone();
        let run = move || {
            if let Err(error) = service.run(&shutdown) {
                tracing::error!("{error:#}");
            }
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(run);
        self.threads.push(thread.with_context(|| format!("cannot start the thread {name}"))?);
        Ok(())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.shutdown.begin();
        for thread in self.threads.drain(..) {
            // The tracker has ended by then (`daemon::panics`); a test has not, and is to fail.
            let result = thread.join();
            assert!(thread::panicking() || result.is_ok(), "a service panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    struct Sleeper(mpsc::Sender<&'static str>);

    impl Service for Sleeper {
        fn name(&self) -> String {
            "sleeper".into()
        }

        fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
            assert_eq!(thread::current().name(), Some("sleeper"));
            self.0.send("begun")?;
            while shutdown.sleep(Duration::from_secs(3600)) {}
            self.0.send("ended")?;
            Ok(())
        }
    }

    #[test]
    fn services_are_told_and_waited_for_when_they_are_dropped() {
        let (sender, events) = mpsc::channel();
        let mut services = Services::default();
        for _ in 0..2 {
            services.spawn(Sleeper(sender.clone())).expect("a thread");
        }
        drop(sender);
        for _ in 0..2 {
            assert_eq!(events.recv(), Ok("begun"));
        }
        drop(services);
        assert_eq!(events.try_iter().collect::<Vec<_>>(), ["ended"; 2]);
    }
}
