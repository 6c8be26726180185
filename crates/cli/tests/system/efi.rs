//! Systems that boot through EFI in the VMM.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tearless_boot::initramfs::{Initramfs, NodeKind};
use tearless_efi::media::{Volume, fat::Fat};
use tearless_image::{QuickOptions, Silent, quick_boot};
use tearless_media::{self as media, IsoBuilder, Loader, System};
use tearless_vm::storage::{OpenOptions, open};

use crate::{life::wait_for, tool::Tool};

const SUITE: &str = "trixie";
const NOW: (u16, u16) = (0x5a21, 0);
/// What the guest of [`system`] says when it is up.
const UP: &str = "the system is up";

/// An empty FAT16 file system of 64 MiB.
fn format(path: &Path) -> Fat {
    std::fs::File::create(path).unwrap().set_len(64 << 20).unwrap();
    Fat::format(Volume::whole(open(path, OpenOptions::default()).unwrap()), "ESP").unwrap()
}

/// Debian's kernel, and a RAM disk that does `what` in busybox's shell.
fn system(what: &str, modules: &[&str]) -> System {
    let extra_modules = modules.iter().map(|name| (*name).to_owned()).collect();
    let quick = quick_boot(&QuickOptions { extra_modules, ..QuickOptions::default() }, &Silent).unwrap();
    let mut disk = Initramfs::new();
    let script = format!(
        "#!/bin/busybox sh\nexec >/dev/console 2>&1\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\n{what}\n"
    );
    disk.dir("proc", 0o755).unwrap().dir("sys", 0o755).unwrap().dir("dev", 0o755).unwrap();
    disk.node("dev/console", 0o600, NodeKind::Char, (5, 1)).unwrap();
    disk.file("bin/busybox", 0o755, quick.busybox).unwrap().file("init", 0o755, script).unwrap();
    for applet in ["mount", "insmod", "sed", "sh", "poweroff", "reboot", "cat"] {
        disk.symlink(&format!("bin/{applet}"), "busybox").unwrap();
    }
    for module in quick.kernel.modules.iter().filter(|module| modules.contains(&&*module.name)) {
        disk.file(&format!("{}.ko", module.name), 0o644, &module.bytes[..]).unwrap();
    }
    System {
        kernel: std::fs::read(quick.kernel.image).unwrap(),
        initrd: disk.finish(),
        cmdline: "console=ttyAMA0 quiet loader=yes".into(),
    }
}

/// The guest says that it is up, and what its kernel was told, and powers off.
fn boots(tool: &Tool, args: &[&str]) {
    let outcome = tool.run(&[&["run", "--cpus", "1", "--memory", "512M", "--net", "none"], args].concat());
    assert_eq!(outcome.status, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    let said = outcome.stdout.replace('\r', "");
    assert!(said.contains(&format!("{UP}: loader=yes")), "{said}");
}

/// Says what was on the command line, without what boot loaders add to it.
fn ordinary() -> System {
    system(
        &format!("for w in $(cat /proc/cmdline); do [ $w = loader=yes ] && echo {UP}: $w; done; poweroff -f"),
        &[],
    )
}

#[test]
fn shim_and_grub_boot_from_a_disk() {
    let tool = Tool::new();
    let disk = tool.file("disk.img", &media::disk(SUITE, Loader::Grub, &ordinary(), &Silent).unwrap());
    boots(&tool, &["--efi", "--disk", disk.to_str().unwrap()]);
}

/// Variables are EFI's runtime services: a guest that was suspended, or put back to a snapshot, calls them as before.
#[test]
fn a_guest_that_efi_booted_is_suspended_and_goes_on() {
    let variable = "/v/Tearless-12345678-1234-1234-1234-123456789abc";
    let script = format!(
        "insmod /efivarfs.ko; mkdir /v; mount -t efivarfs none /v; n=0
        while read word; do n=$((n + 1)); printf \"\\007\\000\\000\\000$word\" > {variable}; echo $n: $(cat {variable}); done"
    );
    let mut system = system(&script, &["efivarfs"]);
    system.initrd.extend({
        let mut more = Initramfs::new();
        more.symlink("bin/mkdir", "busybox").unwrap();
        more.finish()
    });
    let tool = Tool::new();
    let disk = tool.file("disk.img", &media::disk(SUITE, Loader::SystemdBoot, &system, &Silent).unwrap());
    let disk = ["create", "e", "--disk-image", disk.to_str().unwrap()];
    tool.good(&[&disk[..], &["--cpus", "2", "--memory", "512M", "--net", "none"]].concat());
    tool.good(&["start", "e"]);
    let refused = tool.run(&["suspend", "e"]);
    assert!(refused.stderr.contains("still in its boot loader"), "{}", refused.stderr);
    let heard = |expected: &str| {
        wait_for(expected, || tool.log("e").contains(expected));
    };
    wait_for("an answer", || {
        tool.type_in("e", "one\n");
        tool.log("e").contains("1: ") && tool.log("e").contains("one")
    });
    tool.good(&["snapshot", "take", "e", "warm"]);
    tool.type_in("e", "two\n");
    heard("two");
    tool.good(&["suspend", "e"]);
    tool.good(&["resume", "e"]);
    tool.type_in("e", "three\n");
    heard("three");
    tool.good(&["snapshot", "restore", "e", "warm", "--stop"]);
    tool.good(&["resume", "e"]);
    tool.type_in("e", "four\n");
    heard("four");
    assert_eq!(tool.log("e").matches("1: ").count(), 1, "it booted once");
    tool.good(&["stop", "--force", "e"]);
}

#[test]
fn systemd_boot_boots_from_a_disk() {
    let tool = Tool::new();
    let disk = tool.file("disk.img", &media::disk(SUITE, Loader::SystemdBoot, &ordinary(), &Silent).unwrap());
    boots(&tool, &["--efi", "--disk", disk.to_str().unwrap()]);
}

#[test]
fn shim_and_grub_boot_from_a_cd() {
    let tool = Tool::new();
    let iso = tool.file("cd.iso", &media::cd(SUITE, &ordinary(), &Silent).unwrap());
    boots(&tool, &["--iso", iso.to_str().unwrap()]);
}

/// GRUB finds the screen's frame buffer, and sets another size: seen without any driver.
#[test]
fn grub_paints_on_the_screen() {
    let tool = Tool::new();
    let script = "set gfxmode=640x480\nterminal_output gfxterm\nsleep 600\n";
    let cd = media::debian_cd(SUITE, script, IsoBuilder::default(), &Silent).unwrap();
    let iso = tool.file("cd.iso", &cd);
    let args = [
        "create",
        "g",
        "--disk",
        "64M",
        "--memory",
        "256M",
        "--net",
        "none",
        "--display",
        "800x600",
        "--iso",
    ];
    let made = tool.run(&[&args[..], &[iso.to_str().unwrap()]].concat());
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let started = tool.run(&["start", "g"]);
    assert_eq!(started.status, Some(0), "{}", started.stderr);
    let picture = tool.home().join("screen.png");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let shot = tool.run(&["screenshot", "g", picture.to_str().unwrap()]);
        assert_eq!(shot.status, Some(0), "{}", shot.stderr);
        let png = std::fs::read(&picture).unwrap();
        let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        if (side(16), side(20)) == (640, 480) {
            break;
        }
        assert!(Instant::now() < deadline, "the screen is still {}x{}", side(16), side(20));
    }
    tool.run(&["stop", "g", "--force"]);
}

/// The host gives kernel and RAM disk: the stub fetches that by `LoadFile2`.
#[test]
fn a_kernel_of_the_hosts_boots_through_efi() {
    let (tool, system) = (Tool::new(), ordinary());
    let kernel = tool.file("vmlinuz", &system.kernel);
    let initrd = tool.file("initrd", &system.initrd);
    let files = ["--efi", "--kernel", kernel.to_str().unwrap(), "--initrd", initrd.to_str().unwrap()];
    boots(&tool, &[&files[..], &["--cmdline", &system.cmdline]].concat());
}

/// Something that finds its answers where Debian's installer does, and does the last of them, stands for that: it says that it is
/// done, and resets. From then on the VM has neither the medium nor the answers, and boots its disk.
#[test]
fn an_installation_without_questions_ends_by_itself() {
    let tool = Tool::new();
    let steps = "insmod /efivarfs.ko; sed -n 's|^d-i preseed/late_command string ||p' /preseed.cfg > /late; sh /late\n\
                 sed -n 's|^d-i netcfg/get_hostname string |installed host |p' /preseed.cfg; reboot -f";
    let installer = system(steps, &["efivarfs"]);
    let iso = IsoBuilder::default()
        .file("install.a64/vmlinuz", installer.kernel)
        .file("install.a64/initrd.gz", installer.initrd);
    let iso = tool.file("cd.iso", &iso.finish());
    let password = tool.file("password", b"secret\n");
    let args = ["create", "i", "--disk", "2G", "--memory", "512M", "--net", "none", "--unattended"];
    let iso = iso.to_str().unwrap();
    let nobody = tool.run(&[&args[..], &["--iso", iso]].concat());
    assert!(nobody.status == Some(1) && nobody.stderr.contains("nobody could log in"), "{}", nobody.stderr);
    let answers = ["--iso", iso, "--password-file", password.to_str().unwrap(), "--hostname", "h5"];
    let small = ["create", "s", "--disk", "1G", "--net", "none", "--unattended"];
    let small = tool.run(&[&small[..], &answers].concat());
    assert!(small.status == Some(1) && small.stderr.contains("--disk 2G or more"), "{}", small.stderr);
    let made = tool.run(&[&args[..], &answers].concat());
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let own = tool.home().join("i.vm/InstallerInitrd");
    assert!(own.exists());

    let outcome = tool.run(&["run", "i"]);
    assert!(outcome.stdout.contains("installed host h5"), "{}{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.contains("no disk has an EFI boot loader"), "{}", outcome.stdout);
    let outcome = tool.run(&["run", "i"]);
    assert!(outcome.stderr.contains("i is installed; took out") && !own.exists(), "{}", outcome.stderr);
    assert!(!outcome.stdout.contains("installed host"), "{}", outcome.stdout);
    let config = std::fs::read_to_string(tool.home().join("i.vm/config.json")).unwrap();
    assert!(!config.contains("installer") && !config.contains("cd.iso"), "{config}");
}

/// Anaconda itself is not at hand: what it looks for is where it looks.
#[test]
fn anaconda_finds_its_answers_and_its_medium() {
    let tool = Tool::new();
    let password = tool.file("password", b"secret\n");
    let build = |stage: Option<&str>| {
        let iso = IsoBuilder::default()
            .file("images/pxeboot/vmlinuz", b"a kernel".to_vec())
            .file("images/pxeboot/initrd.img", b"a RAM disk".to_vec());
        stage.into_iter().fold(iso, |iso, name| iso.file(name, b"more".to_vec())).finish()
    };
    let iso = tool.file("cd.iso", &build(Some("images/install.img")));
    let args = [
        "create",
        "f",
        "--unattended",
        "--password-file",
        password.to_str().unwrap(),
        "--user",
        "ada",
        "--iso",
    ];
    let iso = iso.to_str().unwrap();
    let of_debian = tool.run(&[&args[..], &[iso, "--suite", "forky"]].concat());
    assert!(
        of_debian.status == Some(1) && of_debian.stderr.contains("is for Debian"),
        "{}",
        of_debian.stderr
    );
    tool.succeeds(&[&args[..], &[iso]].concat());
    let folder = tool.home().join("f.vm");
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    assert!(config.contains("inst.stage2=hd:LABEL="), "{config}");
    let volume = std::fs::read(folder.join("Answers.img")).unwrap();
    let has = |text: &[u8]| volume.windows(text.len()).any(|bytes| bytes == text);
    assert!(has(b"OEMDRV") && has(b"user --name=ada --gecos=ada --groups=wheel --iscrypted --password=$6$"));
    // One that shows a system and has no such installer.
    let live = tool.file("live.iso", &build(None));
    let refused = tool.run(&[
        "create",
        "l",
        "--unattended",
        "--password-file",
        password.to_str().unwrap(),
        "--iso",
        live.to_str().unwrap(),
    ]);
    assert!(refused.status == Some(1) && refused.stderr.contains("takes no answers"), "{}", refused.stderr);
}

/// Debian's kernel is an EFI program itself: it finds memory, device tree and random numbers through boot services, takes
/// over, and uses runtime services from then on.
#[test]
fn a_kernel_boots_as_an_efi_program() {
    let tool = Tool::new();
    let kernel = quick_boot(&QuickOptions::default(), &Silent).unwrap().kernel.image;
    let disk = tool.home().join("esp.img");
    format(&disk).put("EFI/BOOT/BOOTAA64.EFI", &std::fs::read(kernel).unwrap(), NOW).unwrap();
    let args = ["run", "--efi", "--cpus", "1", "--memory", "512M", "--disk", disk.to_str().unwrap()];
    let mut guest = tool.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut wanted =
        vec!["Exiting boot services", "EFI v2.10 by Tearless", "DMI: Tearless", "Registered efivars"];
    let mut said = String::new();
    // Without a root file system it does not get far beyond.
    for line in BufReader::new(guest.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        wanted.retain(|text| !line.contains(text));
        said += &format!("{line}\n");
        if wanted.is_empty() || line.contains("end Kernel panic") {
            break;
        }
    }
    guest.kill().unwrap();
    guest.wait().unwrap();
    assert!(wanted.is_empty(), "no {wanted:?} in:\n{said}");
}

#[test]
fn a_disk_without_a_boot_loader_says_so_and_ends() {
    let tool = Tool::new();
    let disk = tool.home().join("esp.img");
    format(&disk).put("EFI/BOOT/BOOTX64.EFI", b"MZ", NOW).unwrap();
    let outcome =
        tool.run(&["run", "--efi", "--cpus", "1", "--memory", "128M", "--disk", disk.to_str().unwrap()]);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("cannot boot: no disk has an EFI boot loader"), "{}", outcome.stdout);
    let parts = "cannot boot\n  because: no disk has an EFI boot loader";
    assert!(
        outcome.stderr.contains(parts) && outcome.stderr.contains("try: an installer"),
        "{}",
        outcome.stderr
    );
}

/// Where a VM's variables are: a clone or a snapshot gives it a file of its own to go on with.
fn variables(tool: &Tool, name: &str) -> std::path::PathBuf {
    let folder = tool.home().join(format!("{name}.vm"));
    let config = std::fs::read(folder.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    folder.join(config["boot"]["variables"].as_str().unwrap())
}

#[test]
fn a_vm_keeps_its_disk_image_and_its_variables() {
    let tool = Tool::new();
    let disk = tool.home().join("esp.img");
    format(&disk);
    let disk = disk.to_str().unwrap();
    let made = tool.run(&["create", "e", "--disk-image", disk, "--disk", "128M", "--memory", "128M"]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let outcome = tool.run(&["run", "e"]);
    assert!(outcome.stdout.contains("cannot boot"), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(std::fs::metadata(tool.home().join("e.vm/Disk.img")).unwrap().len(), 128 << 20);
    let cloned = tool.run(&["clone", "e", "f"]);
    assert_eq!(cloned.status, Some(0), "{}", cloned.stderr);
    assert!(variables(&tool, "f").exists());
    std::fs::write(variables(&tool, "e"), "damaged").unwrap();
    let outcome = tool.run(&["run", "e"]);
    assert!(outcome.status == Some(1) && outcome.stderr.contains("EFI's variables"), "{}", outcome.stderr);
    let small = tool.run(&["create", "g", "--disk-image", disk, "--disk", "16M"]);
    assert!(small.status == Some(1) && small.stderr.contains("a larger --disk"), "{}", small.stderr);
}

/// A Debian with the distribution's own loader and kernel: our EFI boots it by the entry that `grub-install` made; EDK2, which
/// does not know that one, by the loader at the removable media's path, which makes an entry there too.
#[test]
fn a_debian_with_its_own_boot_loader_boots_under_both() {
    let tool = Tool::new();
    tool.good(&["create", "e", "--linux", "debian", "--efi", "--disk", "4G", "--net", "none"]);
    let firmware = media::files(SUITE, &[(["qemu-efi-aarch64", ""], "/QEMU_EFI.fd")], &Silent).unwrap();
    let firmware = tool.file("QEMU_EFI.fd", &firmware[0]);
    let ask = |command: &str| {
        wait_for("the agent", || tool.run(&["exec", "e", "--", "true"]).status == Some(0));
        tool.good(&["exec", "e", "--", "sh", "-c", command]).stdout
    };
    let facts = "cat /proc/cmdline /sys/class/dmi/id/sys_vendor; efibootmgr";
    tool.good(&["start", "e"]);
    let said = ask("findmnt -no FSTYPE /boot/efi; ls /boot/efi; efibootmgr; systemctl is-enabled getty@tty1");
    assert!(said.contains("Boot0000* debian") && said.contains("enabled"), "{said}");
    assert!(tool.log("e").contains("first boot done") && !said.contains("first-boot"), "{said}");
    tool.good(&["stop", "e"]);

    tool.good(&["start", "e"]);
    let said = ask(facts);
    assert!(said.contains("BOOT_IMAGE=/boot/vmlinuz-") && said.contains("root=UUID="), "{said}");
    assert!(said.contains("Tearless") && said.contains("BootCurrent: 0000"), "{said}");
    tool.good(&["stop", "e"]);

    let mut other = tool.command(["run", "e", "--firmware", firmware.to_str().unwrap()]);
    let mut guest = other.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let said = ask(facts);
    assert!(said.contains("BOOT_IMAGE=/boot/vmlinuz-") && said.contains("shimaa64.efi"), "{said}");
    assert!(!said.contains("BootCurrent: 0000"), "{said}");
    tool.good(&["stop", "e"]);
    assert!(guest.wait().unwrap().success());
}
