use std::io::Write as _;

use super::*;

/// Keeps what it is told, and fails when told so.
#[derive(Default)]
struct Fake {
    told: Mutex<Vec<String>>,
    failing: Mutex<Option<&'static str>>,
    service: Mutex<Option<WholeService>>,
    picture: Mutex<Option<Result<Vec<u8>, String>>>,
}

impl Fake {
    fn tell(&self, what: &str) -> Result<(), String> {
        self.told.lock().unwrap().push(what.into());
        match *self.failing.lock().unwrap() {
            Some(failing) if failing == what => Err(format!("{what} failed")),
            _ => Ok(()),
        }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Backend for Fake {
    fn pause(&self) -> Result<(), String> {
        self.tell("pause")
    }

    fn resume(&self) -> Result<(), String> {
        self.tell("resume")
    }

    fn press_power(&self) -> Result<(), String> {
        self.tell("power")?;
        if let Some(service) = &*self.service.lock().unwrap() {
            service.ended(Ended::Guest);
        }
        Ok(())
    }

    fn kill(&self) -> Result<(), String> {
        self.tell("kill")
    }

    fn save(&self, to: &Path) -> Result<(), String> {
        self.tell("save")?;
        std::fs::write(to, b"state").map_err(|e| e.to_string())
    }

    fn connect(&self, port: u32) -> Result<OwnedFd, String> {
        self.tell("connect")?;
        let (ours, mut guest) = UnixStream::pair().unwrap();
        guest.write_all(format!("port {port}").as_bytes()).unwrap();
        Ok(ours.into())
    }

    fn set_memory(&self, bytes: u64) {
        self.told.lock().unwrap().push(format!("memory {}", bytes >> 20));
    }

    fn picture(&self) -> Option<Result<Vec<u8>, String>> {
        self.picture.lock().unwrap().clone()
    }
}

fn service(state: Option<StatePlace>) -> (Arc<Fake>, WholeService) {
    let fake = Arc::new(Fake::default());
    let facts = Facts { engine: "vz".into(), cpus: 4, memory: 4 << 30, has_agent: false, state };
    let service = WholeService::new(fake.clone(), facts, Console::default());
    (fake, service)
}

fn place(folder: &Path) -> StatePlace {
    StatePlace { saving: folder.join("saving"), saved: folder.join("suspended") }
}

#[test]
fn a_pause_happens_once_and_a_stop_lets_the_guest_go_on_first() {
    let (fake, service) = service(None);
    service.pause().unwrap();
    service.pause().unwrap();
    assert_eq!((service.state().phase, fake.told()), (Phase::Paused, vec!["pause".to_owned()]));
    *fake.service.lock().unwrap() = Some(service.clone());
    assert_eq!(service.stop(Duration::from_secs(60)), StopOutcome::Guest);
    assert_eq!(fake.told(), ["resume", "power"]);
    assert_eq!((service.wait(), service.state().phase), (Ended::Guest, Phase::Stopping));
    assert!(service.pause().unwrap_err().contains("try:"));
}

/// What whoever asks for a screenshot is sent.
fn screenshot(service: &WholeService) -> Result<Vec<u8>, String> {
    match service.answer(Request::Screenshot) {
        Answer::Stream(send) => {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let mut file = Vec::new();
            thread::spawn(move || send(theirs));
            io::Read::read_to_end(&mut ours, &mut file).unwrap();
            Ok(file)
        }
        Answer::Reply(Reply::Error { message }) => Err(message),
        Answer::Reply(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_screenshot_is_of_the_window_or_of_the_console() {
    let (fake, service) = service(None);
    assert!(screenshot(&service).unwrap().starts_with(b"\x89PNG"), "the console");
    *fake.picture.lock().unwrap() = Some(Ok(b"a picture".to_vec()));
    assert_eq!(screenshot(&service).unwrap(), b"a picture");
    *fake.picture.lock().unwrap() = Some(Err("no window".into()));
    assert_eq!(screenshot(&service).unwrap_err(), "no window");
}

#[test]
fn a_guest_that_does_not_listen_loses_its_power() {
    let (fake, service) = service(None);
    *fake.failing.lock().unwrap() = Some("power");
    assert_eq!(service.stop(Duration::from_millis(20)), StopOutcome::Unheard);
    assert_eq!(fake.told().last().map(String::as_str), Some("kill"));
    assert_eq!(service.wait(), Ended::Killed);
}

#[test]
fn what_is_suspended_is_found_and_what_fails_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (fake, service) = service(Some(place(folder.path())));
    *fake.failing.lock().unwrap() = Some("save");
    assert!(service.suspend().unwrap_err().contains("save failed"));
    assert_eq!(
        (fake.told(), service.state().phase),
        (vec!["pause".into(), "save".into(), "resume".into()], Phase::Running)
    );
    assert!(tearless_state::Folder::find(&folder.path().join("suspended")).is_none());

    *fake.failing.lock().unwrap() = None;
    assert_eq!(service.suspend().unwrap(), 5);
    assert_eq!(fake.told(), ["pause", "save", "kill"]);
    assert_eq!(service.wait(), Ended::Suspended);
    let saved = tearless_state::Folder::find(&folder.path().join("suspended")).unwrap();
    assert!(StatePlace::file(saved.path()).exists());
    // Another engine takes it for what it is: none of its own.
    assert!(saved.load().is_err());
    assert!(service.suspend().is_err());
}

#[test]
fn a_vm_that_throws_its_changes_away_is_not_suspended() {
    let (fake, service) = service(None);
    assert!(service.suspend().unwrap_err().contains("--ephemeral"));
    assert!(fake.told().is_empty());
}

#[test]
fn balloons_connections_and_consoles_reach_the_vm() {
    let (fake, service) = service(None);
    assert!(matches!(service.answer(Request::Balloon { target: 1 << 30 }), Answer::Reply(Reply::Done)));
    assert!(matches!(
        service.answer(Request::Balloon { target: 4 << 30 }),
        Answer::Reply(Reply::Error { .. })
    ));
    assert_eq!(fake.told(), ["memory 3072"]);
    let Answer::Stream(serve) = service.answer(Request::GuestConnect { port: 22 }) else {
        panic!("no stream")
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = thread::spawn(move || serve(theirs));
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    (&ours).read_to_string(&mut text).unwrap();
    serving.join().unwrap();
    assert_eq!(text, "port 22");

    let (ours, mut guest) = UnixStream::pair().unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let said = said.clone();
        move |bytes: &[u8]| said.lock().unwrap().extend_from_slice(bytes)
    };
    assert_eq!(StreamInput::new(ours.try_clone().unwrap()).push(b"typed"), 5);
    let mut typed = [0; 5];
    guest.read_exact(&mut typed).unwrap();
    guest.write_all(b"hello").unwrap();
    drop(guest);
    listen(ours, Box::new(sink));
    assert_eq!((&typed, said.lock().unwrap().as_slice()), (b"typed", b"hello".as_slice()));
}
