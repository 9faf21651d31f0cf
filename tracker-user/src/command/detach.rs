//! `tracker detach`: takes down what a tracker has left pinned, so that XDP ends.

use crate::{
    text::plural,
    xdp::{
        netlink,
        pins::{self, Directory},
    },
};
use clap::Args;
use std::path::PathBuf;

/// Options of `tracker detach`.
#[derive(Args, Clone, Debug, Default)]
pub struct DetachOptions {
    /// The directory of the pins, as it was given to `tracker run`
    #[arg(long, value_name = "DIRECTORY", default_value = pins::DEFAULT_PATH)]
    pub pin_path: PathBuf,
}

/// Takes everything down and says what that was. Where nothing is pinned, nothing is done.
///
/// # Errors
/// When a tracker works with the pins, they are not a tracker's, or something cannot be removed.
pub fn detach(options: &DetachOptions) -> anyhow::Result<String> {
    let path = &options.pin_path;
    let interfaces = netlink::interfaces().unwrap_or_default();
    let Some(directory) = Directory::existing(path)? else {
        return Ok(format!("nothing is pinned: there is no directory {}\n", path.display()));
    };
    // To know whose it is before anything is removed.
    directory.contents()?;
    if directory.is_empty()? {
        return Ok(format!("nothing is pinned in {}\n", path.display()));
    }
    let cleared = directory.take_down()?;
    let name = |index: &u32| {
        let found = interfaces.iter().find(|interface| interface.index == *index);
        found.map_or_else(|| format!("number {index} (of another network namespace)"), |found| found.name.clone())
    };
    let names: Vec<_> = cleared.interfaces.iter().map(name).collect();
    let off = if names.is_empty() { "it was on no interface".to_owned() } else { format!("off {}", names.join(", ")) };
    let mut text = format!(
        "XDP has ended: {off}; removed {} from {}\n",
        plural(cleared.objects as u64, "pinned map or program", "pinned maps and programs"),
        path.display()
    );
    for undone in &cleared.undone {
        text += &format!("{}\n", undone.text);
    }
    for left in &cleared.left {
        text += &format!("left alone, as it is not the tracker's: {}\n", left.display());
    }
    Ok(text)
}
