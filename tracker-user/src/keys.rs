//! Keys in the settings record: of the store's hash functions, fresh at every start, and of the connection ids, kept in the
//! state directory so that clients need not connect anew after a restart.

use crate::memory::Store;
use anyhow::{Context as _, bail};
use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

const KEY_FILE: &str = "connection.key";
const KEY_BYTES: usize = 16;

/// Fills in all keys.
///
/// # Errors
/// When the system has no randomness, or the state directory cannot be used.
pub fn set(store: &Store, state_dir: Option<&Path>) -> anyhow::Result<()> {
    let settings = store.settings();
    for key in &settings.hash_keys {
        // Odd: a multiplier that loses no information.
        key.store(getrandom::u64().context("the system gives no random numbers")? | 1);
    }
    let key = match state_dir {
        Some(directory) => kept_key(directory)?,
        None => fresh_key()?,
    };
    let (low, high) = key.split_at(KEY_BYTES / 2);
    for (word, half) in settings.connection_key.iter().zip([low, high]) {
        word.store(u64::from_le_bytes(half.try_into()?));
    }
    Ok(())
}

fn fresh_key() -> anyhow::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).context("the system gives no random numbers")?;
    Ok(key)
}

/// The key in `directory`, made there at the first start.
fn kept_key(directory: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the state directory {}", directory.display()))?;
    let path = directory.join(KEY_FILE);
    match fs::read(&path) {
        Ok(bytes) => match <[u8; KEY_BYTES]>::try_from(bytes) {
            Ok(key) => Ok(key),
            Err(bytes) => bail!(
                "{} holds {} bytes where {KEY_BYTES} are expected: it is not a key of this tracker; remove it to get a new one",
                path.display(),
                bytes.len()
            ),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = fresh_key()?;
            write_key(directory, &key)
                .with_context(|| format!("cannot write the connection key {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the connection key {}", path.display())),
    }
}

/// Written under another name first: a crash leaves no half key behind.
fn write_key(directory: &Path, key: &[u8]) -> std::io::Result<()> {
    let temporary = directory.join(format!("{KEY_FILE}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(temporary, directory.join(KEY_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of this test's own, removed with it.
    struct Directory(std::path::PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tracker-keys-{name}-{}", std::process::id()));
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn connection_key_survives_a_restart() {
        let directory = Directory::new("restart");
        let first = kept_key(&directory.0).expect("made");
        assert_eq!(kept_key(&directory.0).expect("read"), first);
        let names: Vec<_> = fs::read_dir(&directory.0).expect("exists").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, [KEY_FILE], "nothing but the key is left behind");
    }

    #[test]
    fn file_that_is_no_key_is_neither_used_nor_overwritten() {
        let directory = Directory::new("odd");
        fs::create_dir_all(&directory.0).expect("writable");
        fs::write(directory.0.join(KEY_FILE), "short").expect("writable");
        let error = kept_key(&directory.0).expect_err("too short").to_string();
        assert!(error.contains("5 bytes"), "{error}");
        assert_eq!(fs::read(directory.0.join(KEY_FILE)).expect("kept"), b"short");
    }
}
