//! The network of a VM that another program builds: its card's frames are datagrams on a socket.

use std::{
    io,
    os::unix::net::UnixDatagram,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rustix::net::{
    SendFlags,
    sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size},
};
use tearless_net::{Card, Endpoint, Frame, Mac, Offload, Offloads};

/// Frames that wait for the network's thread: more than a guest sends while that is busy with others.
const WAITING: usize = 512;
/// What the framework asks for: at least so much room for the frames of each direction.
const SEND_BUFFER: usize = 1 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;
/// The longest frame without offloads, with room to spare.
const LONGEST: usize = 65_550;

struct DatagramCard {
    mac: Mac,
    socket: UnixDatagram,
    waiting: Mutex<Receiver<Vec<u8>>>,
}

impl Card for DatagramCard {
    fn mac(&self) -> Mac {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    fn take(&self, into: &mut Vec<u8>) -> Option<Offload> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *into = waiting.try_recv().ok()?;
        Some(Offload::default())
    }

    fn give(&self, frame: &Frame<'_>) -> bool {
        // A frame that finds no room is lost, as on any network.
        let _ = rustix::net::send(&self.socket, &frame.parts.concat(), SendFlags::DONTWAIT);
        true
    }

    fn flush(&self) {
        // Each frame is sent at once.
    }
}

/// Plugs a card of address `mac` into `endpoint`. Returns the socket whose datagrams are the guest's frames.
///
/// # Errors
/// When the host refuses a resource.
pub(crate) fn plug(endpoint: Arc<dyn Endpoint>, mac: Mac) -> io::Result<UnixDatagram> {
    let (ours, theirs) = UnixDatagram::pair()?;
    for socket in [&ours, &theirs] {
        set_socket_send_buffer_size(socket, SEND_BUFFER)?;
        set_socket_recv_buffer_size(socket, RECEIVE_BUFFER)?;
    }
    let (sender, waiting) = sync_channel(WAITING);
    let reader = ours.try_clone()?;
    endpoint.attach(Arc::new(DatagramCard { mac, socket: ours, waiting: Mutex::new(waiting) }));
    thread::Builder::new().name("frames".into()).spawn(move || receive(&reader, &sender, &*endpoint))?;
    Ok(theirs)
}

fn receive(socket: &UnixDatagram, waiting: &SyncSender<Vec<u8>>, endpoint: &dyn Endpoint) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv(&mut buffer) {
            Ok(read) => {
                let frame = buffer.get(..read).unwrap_or_default().to_vec();
                // A guest that sends faster than the network takes loses frames.
                let _ = waiting.try_send(frame);
                endpoint.kick();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return tracing::debug!(%error, "the guest's card is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tearless_net::{NatOptions, nat};

    use super::*;

    /// A question for the gateway's hardware address (RFC 826) is answered.
    #[test]
    fn frames_reach_the_network_and_come_back() {
        let mac = [0x52, 0x54, 0, 1, 2, 3];
        let endpoint = nat::start(NatOptions::default(), None).unwrap();
        let socket = plug(endpoint, mac).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut question = vec![0xff; 6];
        question.extend(mac);
        question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        question.extend(mac);
        question.extend([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
        socket.send(&question).unwrap();
        let mut answer = vec![0; 2000];
        loop {
            let read = socket.recv(&mut answer).unwrap();
            let frame = &answer[..read];
            if frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 2]) {
                assert_eq!(frame[..6], mac);
                assert_eq!(frame[28..32], [10, 0, 2, 2]);
                return;
            }
        }
    }
}
