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
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _};

impl Directory {
    /// Pins a store with its programs, the record last.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::xdp) fn pin_all(&self, ebpf: &mut Ebpf, identity: &Identity) -> anyhow::Result<()> {
        for name in STORE_MAPS {
            let map = ebpf.map(name).with_context(|| format!("the eBPF object has no map {name}"))?;
            map.pin(self.map(name)).with_context(|| format!("cannot pin the map {name}"))?;
        }
        self.pin_set(ebpf, identity)?;
        identity.pin(&self.identity())
    }

    /// Pins a set of programs with the maps that are theirs alone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::xdp) fn pin_set(&self, ebpf: &mut Ebpf, identity: &Identity) -> anyhow::Result<()> {
        let set = self.set(&identity.object);
        if set.exists() {
            // Of a daemon that was killed at this very point.
            remove_all(&set)?;
        }
        DirBuilder::new().mode(0o700).create(&set).with_context(|| format!("cannot make {}", set.display()))?;
        for name in OWN_MAPS {
            let map = ebpf.map(name).with_context(|| format!("the eBPF object has no map {name}"))?;
            map.pin(set.join(name)).with_context(|| format!("cannot pin the map {name}"))?;
        }
        for name in names() {
            program(ebpf, name)?.pin(set.join(name)).with_context(|| format!("cannot pin the XDP program {name}"))?;
        }
        Ok(())
    }

    /// Has the record say that a set of programs, which is complete by now, is the one in use.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::xdp) fn use_set(&self, identity: &Identity) -> anyhow::Result<()> {
        identity.replace(&self.identity())
    }
}
