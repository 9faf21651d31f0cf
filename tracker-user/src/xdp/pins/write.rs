//! Pinning what was loaded, in an order that can be broken off anywhere.

use super::{clear::remove_all, directory::Directory, identity::Identity};
use crate::{
    store::sizes::STORE_MAPS,
    xdp::{
        object::program,
        program::{OWN_MAPS, names},
    },
};
use anyhow::Context as _;
use aya::Ebpf;
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path};

impl Directory {
    /// Pins a store with its programs, the record last.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::xdp) fn pin_all(&self, ebpf: &mut Ebpf, identity: &Identity) -> anyhow::Result<()> {
        self.pin_beside(ebpf, identity)?;
        identity.pin(&self.identity())
    }

    /// Pins a store with its programs beside those of the record, which stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::xdp) fn pin_beside(&self, ebpf: &mut Ebpf, identity: &Identity) -> anyhow::Result<()> {
        let store = self.store(identity);
        if identity.store != 0 {
            make(&store)?;
        }
        for name in STORE_MAPS {
            let map = ebpf.map(name).with_context(|| format!("the eBPF object has no map {name}"))?;
            map.pin(store.join(name)).with_context(|| format!("cannot pin the map {name}"))?;
        }
        self.pin_set(ebpf, identity)
    }

    /// Pins a set of programs with the maps that are theirs alone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::xdp) fn pin_set(&self, ebpf: &mut Ebpf, identity: &Identity) -> anyhow::Result<()> {
        let set = self.set(identity);
        make(&set)?;
        for name in OWN_MAPS {
            let map = ebpf.map(name).with_context(|| format!("the eBPF object has no map {name}"))?;
            map.pin(set.join(name)).with_context(|| format!("cannot pin the map {name}"))?;
        }
        for name in names() {
            program(ebpf, name)?.pin(set.join(name)).with_context(|| format!("cannot pin the XDP program {name}"))?;
        }
        Ok(())
    }

    /// Has the record say that a set of programs and a store, which are complete by now, are the ones
    /// in use.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::xdp) fn use_set(&self, identity: &Identity) -> anyhow::Result<()> {
        identity.replace(&self.identity())
    }
}

/// Makes a directory that is empty.
fn make(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        // Of a daemon that was killed at this very point.
        remove_all(path)?;
    }
    DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot make {}", path.display()))
}
