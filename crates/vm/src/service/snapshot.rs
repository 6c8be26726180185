//! The VM's side of a snapshot that is taken while it runs; [`tearless_control::taking`] has the whole conversation.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tearless_control::{OpenDisk, Reply, Step, taking::next_step, tell};
use tearless_guest::Frozen;
use tearless_state::{Saved, StateError, Writing};
use tearless_storage::{Disk, Format, OpenOptions, open_layer};

use super::{CLOCK_ANSWER, Image, Saving, Service, telling};
use crate::{guest, save::PATIENCE};

/// How long a client may take to write new layers, and then the snapshot.
const PREPARATION: Duration = Duration::from_secs(60);
/// How long the VM stands still for its client.
const COMMIT: Duration = Duration::from_secs(20);

/// The layers that the disks are to have, with the number of each.
type Layers = Vec<(usize, PathBuf, Arc<dyn Disk>)>;

/// A disk's new layer as it is handed over: its files from the top down.
struct HandedLayer {
    disk: usize,
    files: Vec<(PathBuf, File)>,
}

/// What is to be done while nothing moves.
struct Order<'a> {
    /// The memory is kept, too.
    memory: bool,
    /// The guest's file systems are frozen.
    frozen: bool,
    layers: Vec<HandedLayer>,
    /// What the disks are now.
    images: &'a [Image],
}

impl Service {
    /// Serves a client that takes a snapshot, with or without the memory.
    pub(super) fn snapshot_for(&self, mut client: UnixStream, memory: bool) {
        let refuse = |(why, advice): (&str, &str)| {
            format!("cannot take a snapshot of the VM\n  because: {why}\n  try: {advice}")
        };
        let result = match self.begin_saving() {
            Err(why) => Err(refuse(why)),
            Ok(saving) => {
                self.tell_viewers();
                let result = self.snapshot(&mut client, &saving, memory);
                self.now().saving = false;
                self.tell_viewers();
                result.map_err(|why| {
                    refuse((&why, "again, once what is in the way is gone; the VM goes on as it was"))
                })
            }
        };
        if let Err(message) = result {
            tracing::warn!(message);
            drop(tell(&mut client, &Reply::Error { message }));
        }
    }

    fn snapshot(&self, client: &mut UnixStream, saving: &Saving, memory: bool) -> Result<(), String> {
        let images = self.now().disks.clone();
        self.tell_disks(client, saving, &images)?;
        let layers = hear_layers(client, images.len())?;
        let frozen = if memory || saving.was_paused { None } else { self.freeze() };
        let order = Order { memory, frozen: frozen.is_some(), layers, images: &images };
        let writing = self.stand_still(client, saving, order);
        drop(frozen);
        let writing = writing?;
        said(client, &Reply::Switched)?;
        let mut bytes = 0;
        if let Some((writing, saved, written)) = writing {
            writing.finish(&saved, &saving.keeper.taken).map_err(|e| e.to_string())?;
            bytes = written;
        }
        said(client, &Reply::Kept { bytes })?;
        tracing::info!(memory, "what a snapshot needs of the VM is written");
        // The client gives the snapshot its name; until then nobody else saves the VM.
        let _ends = next_step(client, PREPARATION);
        Ok(())
    }

    fn tell_disks(&self, client: &mut UnixStream, saving: &Saving, images: &[Image]) -> Result<(), String> {
        let disks = saving.handle.disks();
        let describe = |(image, disk): (&Image, &Arc<dyn Disk>)| OpenDisk {
            path: image.path.clone(),
            size: disk.size(),
            read_only: image.options.read_only,
        };
        said(client, &Reply::Disks { disks: images.iter().zip(&disks).map(describe).collect() })
    }

    /// Has the guest's agent, if there is one, keep the file systems still.
    fn freeze(&self) -> Option<Frozen> {
        let hub = self.0.sockets.as_ref().filter(|hub| hub.is_online())?;
        guest::ask(hub, CLOCK_ANSWER, tearless_guest::Agent::freeze)
            .inspect_err(|error| tracing::warn!(%error, "the guest's file systems are not frozen"))
            .ok()
    }

    /// What happens while nothing moves. Whatever comes of it, the guest goes on afterwards.
    fn stand_still(
        &self,
        client: &mut UnixStream,
        saving: &Saving,
        order: Order<'_>,
    ) -> Result<Option<(Writing, Saved, u64)>, String> {
        let begun = Instant::now();
        if !saving.handle.pause() {
            return Err("its guest is resetting or has ended".to_owned());
        }
        let result = self.while_still(client, saving, order);
        {
            let now = self.now();
            if !saving.was_paused || now.stopping {
                saving.handle.resume();
            }
        }
        if !saving.was_paused {
            self.set_clock();
        }
        let stood_still_ms = begun.elapsed().as_millis() as u64;
        match result {
            Ok(_) => tracing::info!(stood_still_ms, "it stood still for a snapshot"),
            Err(_) => tracing::info!(stood_still_ms, "it stood still for a snapshot that failed"),
        }
        result
    }

    fn while_still(
        &self,
        client: &mut UnixStream,
        Saving { handle, keeper, .. }: &Saving,
        order: Order<'_>,
    ) -> Result<Option<(Writing, Saved, u64)>, String> {
        let why = |error: StateError| error.to_string();
        let still = handle.quiesce(Instant::now() + PATIENCE).map_err(why)?;
        still.flush_disks().map_err(why)?;
        let mut kept = None;
        if order.memory {
            let (machine, parts) = still.save(&self.0.engine).map_err(why)?;
            let (ram, range) = still.memory();
            let writing = Writing::begin(&keeper.taking).map_err(why)?;
            let bytes = writing.memory(ram, range, &telling(client)).map_err(why)?;
            kept = Some((writing, Saved::new(machine, parts), bytes));
        }
        said(client, &Reply::Still { frozen: order.frozen })?;
        match next_step(client, COMMIT) {
            Ok((Step::Switch, _)) => {}
            Ok(_) => return Err("the client does not keep to the order".to_owned()),
            Err(error) => return Err(format!("the client has gone: {error}")),
        }
        // All of them are opened before the first is used.
        let layers = open_layers(order.layers, order.images)?;
        let mut now = self.now();
        for (index, path, disk) in layers {
            still.replace_disk(index, disk).map_err(why)?;
            if let Some(image) = now.disks.get_mut(index) {
                image.path = path;
            }
        }
        Ok(kept)
    }
}

fn said(client: &mut UnixStream, reply: &Reply) -> Result<(), String> {
    tell(client, reply).map_err(|error| format!("the client has gone: {error}"))
}

/// Hears what layers the disks are to have, until the VM is to stand still.
fn hear_layers(client: &UnixStream, disks: usize) -> Result<Vec<HandedLayer>, String> {
    let mut layers: Vec<HandedLayer> = Vec::new();
    loop {
        let (step, files) =
            next_step(client, PREPARATION).map_err(|error| format!("the client has gone: {error}"))?;
        match step {
            Step::Stop => return Ok(layers),
            Step::Layer { disk, files: names }
                if disk < disks && names.len() == files.len() && layers.iter().all(|l| l.disk != disk) =>
            {
                let files = names.into_iter().zip(files.into_iter().map(|file: OwnedFd| File::from(file)));
                layers.push(HandedLayer { disk, files: files.collect() });
            }
            Step::Layer { .. } | Step::Switch => {
                return Err("the client does not keep to the order".to_owned());
            }
        }
    }
}

fn open_layers(layers: Vec<HandedLayer>, images: &[Image]) -> Result<Layers, String> {
    let mut opened = Vec::new();
    for HandedLayer { disk: index, files } in layers {
        let image = images.get(index).ok_or("there is no such disk")?;
        let mut files = files.into_iter();
        let (path, file) = files.next().ok_or("a layer without a file was handed over")?;
        let options = OpenOptions { format: Some(Format::Qcow2), ..image.options };
        let disk = open_layer((path.clone(), file), files.collect(), options).map_err(|e| e.to_string())?;
        opened.push((index, path, disk));
    }
    Ok(opened)
}
