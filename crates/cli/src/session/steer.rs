//! What viewers of the screen can do with a VM that has no name, and so no control socket.

use std::{io, os::unix::net::UnixStream};

use tearless_vm::{
    Handle,
    remote::{Action, Host},
};

use super::{Cause, Events};

impl Host for Events {
    fn phase(&self) -> String {
        "running".to_owned()
    }

    fn phases(&self) -> u64 {
        0
    }

    fn act(&self, action: Action) -> Result<String, String> {
        match action {
            Action::Kill => self.end(Cause::Left),
            Action::Stop => {
                let button = self.handle().filter(Handle::has_power_button);
                let pressed = button.is_some_and(|handle| handle.press_power().is_ok());
                if !pressed {
                    return Err("cannot ask the guest to shut down\n  because: it does not listen to the power button\n  try: shut \
                                it down from within, or pull the plug"
                        .to_owned());
                }
            }
            Action::Start => return Ok("It runs already.".to_owned()),
            Action::Pause | Action::Resume | Action::Suspend | Action::Snapshot => {
                return Err("cannot pause this VM, save it or take a snapshot of it\n  because: it has no name by which it could be resumed\n  try: one \
                            that `tearless create` makes"
                    .to_owned());
            }
        }
        Ok(String::new())
    }

    fn console(&self) -> io::Result<UnixStream> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the console of this VM is where it was started"))
    }
}
