//! Guests that boot.

use crate::tool::Tool;

#[test]
fn a_command_runs_in_an_arm64_guest() {
    let outcome = Tool::new().run(&["run", "--", "uname", "-m"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(0), "aarch64\n"), "{}", outcome.stderr);
}

#[test]
fn the_exit_status_and_both_streams_pass_through() {
    let outcome = Tool::new().run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(outcome.status, Some(7));
    assert_eq!(outcome.stdout, "out\n");
    assert!(outcome.stderr.ends_with("err\n"), "{}", outcome.stderr);
}

#[test]
fn arguments_arrive_as_they_are() {
    let outcome = Tool::new().run(&["run", "--", "printf", "[%s]", "a b", "", "$HOME;`x`", "'\"\n"]);
    assert_eq!(outcome.stdout, "[a b][][$HOME;`x`]['\"\n]", "{}", outcome.stderr);
}

#[test]
fn a_pipe_goes_through_bit_exact() {
    let input: Vec<u8> =
        (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f).collect();
    let outcome = Tool::new().run_with_input(&["run", "--", "cat"], &input);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.as_bytes() == input, "{} bytes came back", outcome.stdout.len());
}

#[test]
fn several_vcpus_come_up() {
    let outcome = Tool::new().run(&["run", "--cpus", "4", "--", "nproc"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(0), "4\n"), "{}", outcome.stderr);
}

#[test]
fn a_missing_command_and_a_signal_have_the_shells_statuses() {
    let tool = Tool::new();
    assert_eq!(tool.run(&["run", "--", "no-such-command"]).status, Some(127));
    assert_eq!(tool.run(&["run", "--", "sh", "-c", "kill -9 $$"]).status, Some(137));
}

#[test]
fn a_disk_keeps_what_the_guest_wrote() {
    let tool = Tool::new();
    let disk = tool.file("d.img", &[0; 1 << 20]);
    let disk = disk.to_str().unwrap();
    let wrote = tool.run(&[
        "run",
        "--disk",
        disk,
        "--",
        "sh",
        "-c",
        "echo kept | dd of=/dev/vda seek=100 conv=fsync",
    ]);
    assert_eq!(wrote.status, Some(0), "{}", wrote.stderr);
    assert_eq!(&std::fs::read(disk).unwrap()[51_200..51_205], b"kept\n");
    let ro = format!("{disk}:ro");
    let read = tool.run(&[
        "run",
        "--disk",
        &ro,
        "--",
        "sh",
        "-c",
        "head -c 51205 /dev/vda | tail -c 5; echo x > /dev/vda",
    ]);
    assert_eq!(read.stdout, "kept\n");
    assert_ne!(read.status, Some(0));
}

#[test]
fn a_16k_page_kernel_boots_too() {
    let script = "grep -m1 KernelPageSize /proc/self/smaps";
    let outcome = Tool::new().run(&["run", "--flavour", "16k", "--cpus", "2", "--", "sh", "-c", script]);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains(" 16 kB"), "{}", outcome.stdout);
}

#[test]
fn a_guest_reaches_what_it_is_allowed_and_nothing_else() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // What is left unread at the end would make it a reset.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
            request.extend(byte);
        }
        std::io::Write::write_all(&mut stream, b"HTTP/1.0 200 OK\r\n\r\nthrough the NAT\n").unwrap();
    });
    let tool = Tool::new();
    let fetch = format!("wget -q -T 5 -O - http://10.0.2.2:{port}/");
    let closed = tool.run(&["run", "--", "sh", "-c", &fetch]);
    assert_eq!((closed.status, closed.stdout.as_str()), (Some(1), ""), "{}", closed.stderr);
    let open = tool.run(&["run", "--allow", "host", "--", "sh", "-c", &fetch]);
    assert_eq!((open.status, open.stdout.as_str()), (Some(0), "through the NAT\n"), "{}", open.stderr);
    server.join().unwrap();
    let none = tool.run(&["run", "--net", "none", "--", "ls", "/sys/class/net"]);
    assert_eq!((none.status, none.stdout.as_str()), (Some(0), "lo\n"), "{}", none.stderr);
}

/// In a network of the test's own, as root only: taps are made there.
#[test]
#[cfg(target_os = "linux")]
fn a_guest_on_a_bridge() {
    let tool = Tool::new();
    let bridge = "ip link add br7 type bridge && ip address add 192.0.2.1/24 dev br7 && ip link set br7 up";
    let allowed = std::process::Command::new("unshare").args(["-n", "sh", "-ec", bridge]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        crate::tool::skipped("this user may have no network of its own");
        return;
    }
    let guest = "ip address add 192.0.2.9/24 dev eth0; ip link set eth0 up; ping -c 3 -W 5 192.0.2.1";
    let tearless = env!("CARGO_BIN_EXE_tearless");
    let host = format!("{bridge}; exec {tearless} run --net bridged:br7 -- sh -c '{guest}'");
    let mut command = std::process::Command::new("unshare");
    command.args(["-n", "sh", "-ec", &host]).env("TEARLESS_HOME", tool.home());
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let outcome = crate::tool::finish(command);
    assert!(outcome.stdout.contains("192.0.2.1: seq="), "{}{}", outcome.stdout, outcome.stderr);
}

#[test]
fn guests_on_a_named_network_reach_each_other() {
    use std::io::{BufRead as _, BufReader};

    let tool = Tool::new();
    let ready = "until ip -4 -o address show dev eth0 | grep -o '10\\.0\\.2\\.[0-9]*/'; do sleep 0.1; done";
    let server = format!("{ready}; cat > /dev/null");
    let mut command = tool.command(["run", "--net", "lab", "--", "sh", "-c", &server]);
    command.stdin(std::process::Stdio::piped());
    let mut first = command.spawn().unwrap();
    let mut said = BufReader::new(first.stdout.take().unwrap()).lines();
    let address = said.find_map(|line| Some(line.ok()?.trim().strip_suffix('/')?.to_owned()));
    let address = address.expect("the first guest has an address");
    let ping = format!("{ready} > /dev/null; ping -c 3 -W 5 {address}");
    let outcome = tool.run(&["run", "--net", "lab:isolated", "--", "sh", "-c", &ping]);
    drop(first.stdin.take());
    first.wait().unwrap();
    assert!(outcome.stdout.contains("seq=2"), "{}{}", outcome.stdout, outcome.stderr);
    let folder = tool.runtime().join("tearless/net-lab");
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "who has left leaves nothing");
}
