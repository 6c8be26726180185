//! What was typed. What it means is decided by the command modules.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use tearless_config::{
    Allow, AppleChoice, ByteSize, CpuList, DisplayChoice, EngineChoice, MacAddr, NetMode, PortForward,
    QosClass, SoundEnd,
};
use tearless_image::Flavour;

/// macOS and Linux virtual machines without tears.
#[derive(Parser)]
#[command(name = "tearless", version, propagate_version = true, after_help = EXIT_STATUSES)]
pub struct Cli {
    /// Say more about what happens; twice for a trace of what the guest does with its devices.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUSES: &str = "\
Exit statuses: 0 the command succeeded, or the guest powered off; 1 it failed; 2 wrong usage;
with `run -- CMD` and `exec` the status of CMD, 125 if Tearless failed; 128+N ended by signal N.";

#[derive(Subcommand)]
pub enum Command {
    /// Boot a VM: a fresh Debian to try things in, a kernel of your own, or a VM made with `create`.
    Run(RunArgs),
    /// Make a VM that stays.
    Create(Box<CreateArgs>),
    /// Start VMs in the background. Each is a process of its own.
    Start(StartArgs),
    /// Stop VMs: ask their guests to shut down, and end them when they have not in time.
    Stop(StopArgs),
    /// Stop VMs and start them again.
    Restart(RestartArgs),
    /// Stop the vCPUs of VMs and the clocks of their guests.
    Pause(NamesArgs),
    /// Save running VMs, memory and all, and end their processes. They go on from there with `resume`, `start` or `run`.
    Suspend(NamesArgs),
    /// Let paused or suspended VMs go on.
    Resume(ResumeArgs),
    /// Attach this terminal to a VM's console. Ctrl-] q detaches; the VM goes on.
    Console(ConsoleArgs),
    /// Show what a VM's guest has said on its console.
    Logs(LogsArgs),
    /// Run a program in a running VM. Its output, input, signals and exit status pass through.
    Exec(ExecArgs),
    /// Copy files and folders between the host and a running VM.
    Cp(CopyArgs),
    /// Print a running VM's network addresses.
    Ip(IpArgs),
    /// Log into a running VM with ssh; it needs no network for that.
    Ssh(SshArgs),
    /// Make ports of a running VM reachable at ports of this host, until this is interrupted; it needs no network.
    Forward(ForwardArgs),
    /// Write the guest agent to a file, for guests that Tearless did not install.
    ///
    /// Debian VMs made with `create --linux debian` have the agent of this release at each boot. In other Linux guests on
    /// ARM64, copy the file into the guest and run `./FILE install` there as root: systemd then starts it at each boot.
    Agent(AgentArgs),
    /// Connect standard input and output with a ssh server in a running VM.
    #[command(hide = true)]
    Proxy(ProxyArgs),
    /// Write what a VM's screen shows to a PNG file; its console, if it has no screen or does not use it yet.
    Screenshot(ScreenshotArgs),
    /// Open a running VM's screen, in the browser or the viewer that this desktop has for it.
    Open(OpenArgs),
    /// The window of a VM whose process has started this one; the screen is on standard input.
    #[command(hide = true)]
    Window(WindowArgs),
    /// List the VMs.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show what a VM is made of.
    Info(InfoArgs),
    /// Keep states of a VM to go back to.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Attend to the page of a VM whose process has started this one, as that says on standard input.
    #[command(hide = true)]
    Attendant(AttendantArgs),
    /// Make another VM with the content of one, at once and without taking room.
    Clone(CloneArgs),
    /// Make a VM of one of another program. Its files are copied at once, and it stays the machine that it is.
    Import(ImportArgs),
    /// Make a VM of another program of one. Its disks are copied at once, where the file system can do that.
    Export(ExportArgs),
    /// Store a VM in an OCI registry, as an image that Tart takes too.
    ///
    /// Its disks, its settings and its identity are stored; not the folders that it shares, nor what of this host it may
    /// reach, nor its snapshots. What the registry has already is not sent again.
    Push(PushArgs),
    /// Make a VM of an image in an OCI registry, of `push` or of Tart.
    ///
    /// What was interrupted goes on when it is run again.
    Pull(PullArgs),
    /// Look at what macOS is installed from.
    #[command(subcommand)]
    Ipsw(IpswCommand),
    /// Give a VM another name.
    Rename(RenameArgs),
    /// Change what a VM is made of.
    Set(SetArgs),
    /// Delete a VM and its disk.
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Tell which engines work on this host and why the others do not.
    Doctor(ListArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
pub struct RunArgs {
    /// A VM by name, or the path of its folder. Without it a fresh Debian is booted from memory.
    #[arg(conflicts_with_all = ["kernel", "command", "DebianArgs"])]
    pub name: Option<String>,
    /// A kernel to boot: arm64 Image (also gzip, EFI zboot or ELF), or a flat binary.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "DebianArgs"])]
    pub kernel: Option<PathBuf>,
    /// The RAM disk for --kernel.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Boot what EFI finds on the disks; or --kernel as an EFI program.
    #[arg(long, conflicts_with_all = ["command", "name", "DebianArgs"])]
    pub efi: bool,
    #[command(flatten)]
    pub firmware: FirmwareArgs,
    /// An installation medium, attached read-only as the last disk. Without a VM it is booted.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "command", "DebianArgs"])]
    pub iso: Option<PathBuf>,
    /// The kernel command line; with a VM or the fresh Debian it is added to theirs.
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A disk image; repeat it for more. It is raw unless its name ends in .qcow2 or .vmdk or its format is given. After
    /// the file, in any order: `:ro`, `:format=raw|qcow2|vmdk`, `:sync=full|fsync|none` (what a flush of the guest does),
    /// `:cache=host|none` (whether the host caches), `:bus=virtio|nvme|usb` (with engine vz). Instead of a file also what a server holds: `nbd://HOST:PORT/EXPORT`,
    /// `nbd+unix:///EXPORT?socket=PATH`.
    #[arg(long = "disk", value_name = "FILE[:ro][:KEY=VALUE]")]
    pub disks: Vec<OsString>,
    /// Throw away what the guest writes to its disks and to the variables of its firmware.
    #[arg(long)]
    pub ephemeral: bool,
    #[command(flatten)]
    pub shares: ShareArgs,
    #[command(flatten)]
    pub debian: DebianArgs,
    /// Check the software CPU: every block of instructions is run by both its interpreter and its translator, and the first
    /// difference ends the run with a report. Many times slower; for one vCPU, which is the default then.
    #[arg(long)]
    pub lockstep: bool,
    /// Print the machine's plan (addresses, interrupts, slots) and exit.
    #[arg(long)]
    pub print_plan: bool,
    /// Write the device tree to FILE and exit.
    #[arg(long, value_name = "FILE")]
    pub dump_dtb: Option<PathBuf>,
    /// Start a macOS guest in its Recovery.
    #[arg(long, requires = "name")]
    pub recovery: bool,
    #[command(flatten)]
    pub state: StateArgs,
    #[command(flatten)]
    pub confinement: ConfinementArgs,
    /// Run the VM as a background process of `start`.
    #[arg(long, hide = true, requires = "name")]
    pub detached: bool,
    /// A command to run in the fresh Debian, after `--`. Its output, input and exit status are passed through.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// The part of the hardware that every VM has.
#[derive(Args)]
pub struct HardwareArgs {
    /// How guest instructions are run.
    #[arg(long, value_parser = parse_engine, value_name = "auto|vz|hvf|kvm|soft")]
    pub engine: Option<EngineChoice>,
    /// How many vCPUs.
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// How much memory, for example 512M or 4G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<ByteSize>,
    /// How much of the memory the guest is to leave to the host, for example 1G: it gives that to its balloon, and takes it
    /// back only when it runs out. What a guest does not use goes back to the host in any case.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub balloon: Option<ByteSize>,
    /// Allow more vCPUs than this host can keep running without stalls.
    #[arg(long)]
    pub overcommit: bool,
    /// The niceness of the VM's process: 1 to 19 yield to other programs; less than 0 needs privileges.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub nice: Option<i8>,
    /// The host CPUs that the VM may run on, for example 0-3,8; `all` for no choice.
    #[arg(long, value_name = "LIST")]
    pub cpu_affinity: Option<CpuList>,
    /// On a Mac with engine soft: `efficiency` has the VM run on the efficiency cores only, behind other programs.
    #[arg(long, value_name = "default|efficiency")]
    pub qos: Option<QosClass>,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub display: DisplayArgs,
    #[command(flatten)]
    pub sound: SoundArgs,
    /// What only Apple's framework has (engine vz): VMs in the guest (`nested`), programs for x86-64 in Linux guests (`rosetta`, where
    /// its daemon waits with `=unix:PATH` or `=abstract:NAME`), the clipboard, macOS' own networks. `=off` switches off. Repeat it for more.
    #[arg(long = "apple", value_name = "nested|rosetta|clipboard|vmnet=shared|host")]
    pub apple: Vec<AppleChoice>,
}

#[derive(Args)]
pub struct DisplayArgs {
    /// Give the VM a screen, a keyboard and a pointer, and say how they are reached: for screenshots only, in a window, or in a
    /// browser or by VNC, at this host alone unless another address is given. Or the screen's size; at `@2x` guests draw
    /// everything twice as large. Repeat it for both.
    #[arg(
        long = "display",
        value_name = "none|hidden|window|web[:[ADDR:]PORT]|vnc[:[ADDR:]PORT]|WIDTHxHEIGHT[@2x]"
    )]
    pub choices: Vec<DisplayChoice>,
    /// A file whose first line VNC viewers must know: up to 8 characters, as VNC looks at no more.
    #[arg(long, value_name = "FILE")]
    pub vnc_password: Option<PathBuf>,
}

#[derive(Args)]
pub struct SoundArgs {
    /// What the VM plays sound on: this host, a WAV file that is written anew at each start, a sound card that nobody hears, or
    /// no sound card. VMs that somebody looks at play on this host unless told otherwise, others have none.
    #[arg(long, value_name = "host|wav:FILE|silent|none")]
    pub sound: Option<SoundEnd>,
    /// What the VM hears: the microphone of this host, a WAV file, silence, or nothing, which is the default.
    #[arg(long, value_name = "host|wav:FILE|silent|none")]
    pub microphone: Option<SoundEnd>,
}

#[derive(Args)]
pub struct NetworkArgs {
    /// What the network card is plugged into: the world through NAT, nothing that is not allowed, a network of any other NAME that
    /// your VMs share (NAME:isolated closes the world to it), a bridge of this host, a tap
    /// that is yours or that is open as file N, a program at a UNIX socket (passt, gvproxy), or no card at all.
    #[arg(long, value_name = "nat|isolated|NAME|bridged:BRIDGE|tap:NAME|fd:N|socket:PATH|none")]
    pub net: Option<NetMode>,
    /// Forward a port of the host to the guest; the host listens at 127.0.0.1 unless told otherwise. Repeat it for more.
    #[arg(short = 'p', long = "publish", value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub forwards: Vec<PortForward>,
    /// Make every TCP port that programs in the guest listen at reachable at 127.0.0.1 of this host, as long as they do: under
    /// the same number, or where that is taken or not allowed, one that is 10000, 20000, ... higher. `info` shows them. For
    /// VMs that stay, with the agent in the guest.
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = parse_switch)]
    pub auto_forward: Option<bool>,
    /// Let the guest reach these addresses; or `host`, the host's loopback services at the gateway's address; or `dns`, its
    /// name servers, for an isolated guest. Repeat it for more.
    #[arg(long, value_name = "CIDR|host|dns")]
    pub allow: Vec<Allow>,
    /// The network card's address.
    #[arg(long, value_name = "MAC")]
    pub mac: Option<MacAddr>,
}

#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// Keep the VM as it is now, under a name: disks, configuration, what its firmware keeps, and, if it runs or is suspended,
    /// its memory and devices. A running VM goes on.
    Take(TakeArgs),
    /// List the snapshots as a tree.
    #[command(visible_alias = "ls")]
    List(InfoArgs),
    /// Put the VM back. What it was since is lost unless another snapshot has it. A snapshot with memory leaves it suspended.
    Restore(RestoreArgs),
    /// Forget a snapshot; others stay as they are.
    #[command(visible_alias = "rm")]
    Delete(SnapshotArgs),
}

#[derive(Args)]
pub struct TakeArgs {
    #[command(flatten)]
    pub of: SnapshotArgs,
    /// Without memory and devices: put back, the VM boots. The guest's file systems are told before, if its agent answers.
    #[arg(long)]
    pub disk_only: bool,
}

#[derive(Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    pub of: SnapshotArgs,
    /// End the VM first if it runs, at once: what it is doing is lost in any case.
    #[arg(long)]
    pub stop: bool,
}

#[derive(Args)]
pub struct SnapshotArgs {
    /// The VM.
    pub name: String,
    /// The snapshot.
    pub snapshot: String,
}

#[derive(Args)]
pub struct CloneArgs {
    /// The VM; it must not run.
    pub name: String,
    /// The new VM's name.
    pub new: String,
    /// Whether the clone is the same machine to its guest and to the network. `keep`: it is; never run both at once then
    /// (two virtual Macs that are the same are refused). `new`: it is another one. An installed macOS starts on the virtual
    /// Mac only that it was installed on, so `keep` is the default for macOS, and `new` for all others.
    #[arg(long, value_name = "keep|new")]
    pub identity: Option<Identity>,
}

/// Who a clone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Identity {
    /// Who the original is.
    Keep,
    /// Somebody else.
    New,
}

/// Which virtual Mac a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecid {
    /// One that nobody is.
    Random,
    /// The one that its macOS was installed on.
    Recover,
    /// This one.
    Number(u64),
}

#[derive(Subcommand)]
pub enum IpswCommand {
    /// List what Apple offers for virtual Macs, and what is in the cache.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Tell which macOS an IPSW is and what a virtual Mac needs for it. Of one on a server, some megabytes are read.
    Info(IpswSourceArgs),
    /// Download an IPSW into the cache. What was interrupted goes on where it ended.
    Fetch(IpswSourceArgs),
}

#[derive(Args)]
pub struct IpswSourceArgs {
    /// A file, an address, or `latest`: the newest that Apple offers.
    #[arg(value_name = "FILE|URL|latest")]
    pub source: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ImportArgs {
    /// The folder of a VM of Tart, UTM, Lume, macosvm, Lima, Viable, VirtualBuddy or Apple's sample code; or a file with a
    /// command line of vfkit.
    pub source: PathBuf,
    /// The new VM's name; default: the folder's.
    pub name: Option<String>,
    #[command(flatten)]
    pub hardware: HardwareArgs,
}

#[derive(Args)]
pub struct ExportArgs {
    /// The VM; it must not run.
    pub name: String,
    /// Whose VM it becomes.
    #[arg(long)]
    pub format: Program,
    /// The folder to make.
    pub to: PathBuf,
}

/// Another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// Tart; put the folder into ~/.tart/vms.
    Tart,
    /// Viable and Apple's sample code, for macOS.
    Apple,
    /// UTM, with Apple's framework; call the folder NAME.utm.
    Utm,
    /// Lume; put the folder into ~/.lume.
    Lume,
    /// vfkit: a script with its command line.
    Vfkit,
    /// VirtualBuddy, for macOS; call the folder NAME.vbvm.
    #[value(name = "virtualbuddy")]
    VirtualBuddy,
    /// macosvm, for macOS and kernels: a folder with vm.json.
    #[value(name = "macosvm")]
    MacOsVm,
    /// Lima, for Linux by EFI; put the folder into ~/.lima.
    Lima,
}

#[derive(Args)]
pub struct PushArgs {
    /// The VM; it must not run.
    pub name: String,
    /// The image: REGISTRY/REPOSITORY:TAG.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    #[command(flatten)]
    pub transfer: TransferArgs,
}

#[derive(Args)]
pub struct PullArgs {
    /// The image: REGISTRY/REPOSITORY:TAG, or REGISTRY/REPOSITORY@sha256:DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The new VM's name; default: the last part of the repository's.
    pub name: Option<String>,
    #[command(flatten)]
    pub transfer: TransferArgs,
}

/// How images move. Passwords come from Docker's `config.json` and its credential helpers.
#[derive(Args)]
pub struct TransferArgs {
    /// Speak http to the registry, so that others may listen and change what comes. Registries of this host are spoken to
    /// like that in any case.
    #[arg(long)]
    pub insecure: bool,
    /// How many pieces of a disk are on their way at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
}

#[derive(Args)]
pub struct RenameArgs {
    /// The VM; it must not run.
    pub name: String,
    /// Its new name.
    pub new: String,
}

#[derive(Args)]
pub struct FirmwareArgs {
    /// Boot with this firmware instead of Tearless' own EFI or loader: EDK2 for QEMU's `virt` machine, such as QEMU_EFI.fd or
    /// AAVMF_CODE.fd of Debian's package qemu-efi-aarch64. It boots the kernel, if there is one, else what it finds on the disks.
    #[arg(long, value_name = "FILE")]
    pub firmware: Option<PathBuf>,
    /// The flash that keeps the firmware's variables, which is made if it is not there; `create` copies it. Default: NVRAM.fd in
    /// the VM's folder; without a VM they are gone in the end.
    #[arg(long, value_name = "FILE")]
    pub firmware_vars: Option<PathBuf>,
}

#[derive(Args)]
pub struct ShareArgs {
    /// A host folder to share with the guest; ours mount it at /mnt/TAG, which is the folder's name unless given. `ro`
    /// refuses changes; `uid=N` shows your files as those of the guest's user N instead of root. Repeat it for more.
    #[arg(long = "share", value_name = "DIR[:TAG][:ro][:uid=N]")]
    pub shares: Vec<OsString>,
}

#[derive(Args)]
pub struct DebianArgs {
    /// The Debian release; default: trixie, or with --iso the medium's.
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// Which of Debian's kernels: the small one for virtual machines (the default without --display, for it knows no screens), the
    /// standard one, or that with 16 KiB pages.
    #[arg(long, value_name = "cloud|generic|16k", value_parser = parse_flavour)]
    pub flavour: Option<Flavour>,
    /// The Debian mirror; default: the host's own, else $TEARLESS_DEBIAN_MIRROR.
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Ask the mirror for newer packages.
    #[arg(long)]
    pub refresh: bool,
}

#[derive(Args)]
#[group(id = "installs", args = ["linux", "unattended", "cloud_init"], multiple = true)]
pub struct CreateArgs {
    /// The VM's name.
    pub name: String,
    /// Install this Linux: debian.
    #[arg(long, value_name = "DISTRIBUTION", required_unless_present_any = ["kernel", "iso", "disk_image", "ipsw"])]
    #[arg(conflicts_with_all = ["kernel", "iso", "disk_image", "ipsw"])]
    pub linux: Option<String>,
    /// Install it as its own installer does: with an EFI system partition, its signed boot loader and its kernel on the disk, so that
    /// it upgrades both itself. Otherwise the VM's folder has the kernel, which boots faster.
    #[arg(long, requires = "linux", conflicts_with_all = ["kernel", "iso", "disk_image", "ipsw"])]
    pub efi: bool,
    /// Boot this installation medium through EFI until a system is on the disk; it stays where it is.
    #[arg(long, value_name = "FILE", group = "medium", conflicts_with = "kernel")]
    pub iso: Option<PathBuf>,
    /// Boot this disk image through EFI; its content is copied to the VM's disk.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "cmdline", "DebianArgs"])]
    pub disk_image: Option<PathBuf>,
    /// Have cloud-init, which images for clouds have, set the system of --disk-image up when the VM first runs: its host name,
    /// user, keys, packages, and the agent of Tearless.
    #[arg(long, group = "answers", requires = "disk_image", conflicts_with_all = ["linux", "kernel", "iso", "ipsw"])]
    pub cloud_init: bool,
    /// Install macOS from this IPSW. Needs an Apple silicon Mac.
    #[arg(long, value_name = "FILE|latest", group = "medium")]
    #[arg(conflicts_with_all = ["kernel", "iso", "disk_image", "cmdline", "DebianArgs"])]
    pub ipsw: Option<PathBuf>,
    /// Which virtual Mac it is to be: its ECID, from which serial number and UUIDs follow.
    #[arg(long, value_name = "N|random", value_parser = parse_new_ecid, requires = "ipsw")]
    #[arg(conflicts_with_all = ["linux", "kernel", "iso", "disk_image"])]
    pub ecid: Option<Ecid>,
    /// Boot this kernel; it is copied into the VM's folder.
    #[arg(long, value_name = "FILE", conflicts_with = "DebianArgs")]
    pub kernel: Option<PathBuf>,
    /// The RAM disk for --kernel; copied too.
    #[arg(long, value_name = "FILE", requires = "kernel", conflicts_with_all = ["linux", "iso", "disk_image", "ipsw"])]
    pub initrd: Option<PathBuf>,
    /// The kernel command line for --kernel, or additions to Debian's, or to that of an installer without questions.
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    /// Packages to install beside the base system; repeat it, or separate names by commas.
    #[arg(
        long = "package",
        value_name = "NAME",
        value_delimiter = ',',
        requires = "installs",
        conflicts_with = "ipsw"
    )]
    pub packages: Vec<String>,
    /// A file with public SSH keys that may log in as root, or as the user of an installation without questions
    /// or of a cloud image.
    #[arg(long, value_name = "FILE", requires = "installs", conflicts_with = "ipsw")]
    pub ssh_key: Option<PathBuf>,
    #[command(flatten)]
    pub unattended: UnattendedArgs,
    #[command(flatten)]
    pub firmware: FirmwareArgs,
    /// Size of the VM's disk, for example 64G; it takes room only as it fills.
    #[arg(long, alias = "disk-size", value_name = "SIZE", value_parser = parse_size)]
    pub disk: Option<ByteSize>,
    #[command(flatten)]
    pub shares: ShareArgs,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    #[command(flatten)]
    pub debian: DebianArgs,
}

impl DebianArgs {
    /// The Debian release to boot or install without a medium.
    pub fn suite(&self) -> &str {
        self.suite.as_deref().unwrap_or("trixie")
    }
}

/// The answers to the questions of an installer or of cloud-init.
#[derive(Args)]
pub struct UnattendedArgs {
    /// Install from the medium without questions, onto all of the VM's disk, when the VM first runs. Debian's, Ubuntu's
    /// and Fedora's installers can do that. With --ipsw: have macOS make the user at its first start instead of asking; that needs macOS 27, on this
    /// Mac and as the guest.
    #[arg(long, group = "answers", requires = "medium", conflicts_with_all = ["linux", "kernel", "disk_image"])]
    pub unattended: bool,
    /// The user's name; default: yours, with --cloud-init only the image's own user.
    #[arg(long, value_name = "NAME", requires = "answers")]
    pub user: Option<String>,
    /// A file with the user's password in its first line; without one, the user logs in by --ssh-key. With
    /// --cloud-init and without --user it is that of the image's own user.
    #[arg(long, value_name = "FILE", requires = "answers")]
    pub password_file: Option<PathBuf>,
    /// Log the user in whenever macOS starts; anybody at its screen is in then.
    #[arg(long, requires = "answers", requires = "ipsw")]
    pub auto_login: bool,
    /// The host name; default: the VM's name.
    #[arg(long, value_name = "NAME", requires = "answers", conflicts_with = "ipsw")]
    pub hostname: Option<String>,
    /// The locale; default: this host's, with --cloud-init the image's.
    #[arg(long, value_name = "LOCALE", requires = "answers", conflicts_with = "ipsw")]
    pub locale: Option<String>,
    /// The keyboard's layout; default: this host's, with --cloud-init the image's.
    #[arg(long, value_name = "LAYOUT", requires = "answers", conflicts_with = "ipsw")]
    pub keyboard: Option<String>,
    /// The time zone; default: this host's, with --cloud-init the image's.
    #[arg(long, value_name = "ZONE", requires = "answers", conflicts_with = "ipsw")]
    pub timezone: Option<String>,
}

#[derive(Args)]
pub struct NamesArgs {
    /// The VMs.
    #[arg(required = true)]
    pub names: Vec<String>,
}

#[derive(Args)]
pub struct ResumeArgs {
    /// The VMs.
    #[arg(required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub confinement: ConfinementArgs,
}

#[derive(Args)]
pub struct StartArgs {
    /// The VMs.
    #[arg(required_unless_present = "all")]
    pub names: Vec<String>,
    /// All VMs that do not run.
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Return only when the agents in the guests serve, so that programs can be run in them, and NAT's guests have an address (for
    /// which this waits 5 s at most); give up after TIME.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2m", value_parser = parse_time)]
    pub wait: Option<Duration>,
    /// Start them now, and from now on whenever you log in: by systemd's user manager, or launchd on macOS.
    #[arg(long, conflicts_with = "all")]
    pub at_login: bool,
    /// Do not start them, and from now on not when you log in either.
    #[arg(long, conflicts_with_all = ["all", "at_login", "wait"])]
    pub no_at_login: bool,
    #[command(flatten)]
    pub state: StateArgs,
    #[command(flatten)]
    pub confinement: ConfinementArgs,
}

#[derive(Args, Clone, Default)]
pub struct StateArgs {
    /// Throw the state of a suspended VM away and boot it: as after a power failure, with the disks as they were then.
    #[arg(long)]
    pub discard_state: bool,
}

#[derive(Args)]
pub struct StopArgs {
    /// The VMs.
    #[arg(required_unless_present = "all")]
    pub names: Vec<String>,
    /// All VMs that run.
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// How long a guest may take to shut down, for example 30s or 2m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub timeout: Duration,
    /// Do not ask the guests: pull the plug.
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args)]
pub struct RestartArgs {
    #[command(flatten)]
    pub stop: StopArgs,
    #[command(flatten)]
    pub confinement: ConfinementArgs,
}

/// What confines a VM's process.
#[derive(Args, Default)]
pub struct ConfinementArgs {
    /// Do not confine the VM's process to its own files and the system calls that it needs. For debugging.
    #[arg(long)]
    pub no_sandbox: bool,
}

#[derive(Args)]
pub struct SetArgs {
    /// The VM.
    pub name: String,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// Make a disk larger, for example 128G; a running guest sees it at once. The guest's partitions and file systems are its own business.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub disk_size: Option<ByteSize>,
    /// Which disk, counted from 1.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "disk_size")]
    pub disk: usize,
    /// Which virtual Mac it is: an ECID, a random one, or the one that its macOS was installed on (`recover`), on which alone
    /// that starts.
    #[arg(long, value_name = "N|random|recover", value_parser = parse_ecid)]
    pub ecid: Option<Ecid>,
    /// A note about the VM.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Attach a disk image besides those that the VM has, as in `run`; repeat it for more.
    #[arg(long = "add-disk", value_name = "FILE[:ro]...")]
    pub disks: Vec<OsString>,
    /// Detach a disk image, named as `info --json` shows it. The file stays.
    #[arg(long = "remove-disk", value_name = "FILE")]
    pub remove_disks: Vec<PathBuf>,
    #[command(flatten)]
    pub shares: ShareArgs,
    /// Share a folder no more, named by its tag as `info` shows it. Repeat it for more.
    #[arg(long = "remove-share", value_name = "TAG")]
    pub remove_shares: Vec<String>,
}

#[derive(Args)]
pub struct ConsoleArgs {
    /// The VM.
    pub name: String,
}

#[derive(Args)]
pub struct OpenArgs {
    /// The VM.
    pub name: String,
    /// Only print the address.
    #[arg(long, conflicts_with = "window")]
    pub print: bool,
    /// In a window, however the screen is seen otherwise.
    #[arg(long)]
    pub window: bool,
}

#[derive(Args)]
pub struct AttendantArgs {
    /// The VM's folder.
    pub bundle: PathBuf,
}

#[derive(Args)]
pub struct WindowArgs {
    /// The VM's name.
    #[arg(long)]
    pub title: String,
    /// The screen's size.
    #[arg(long)]
    pub mode: DisplayChoice,
    /// Keep what is copied where it was copied.
    #[arg(long)]
    pub no_clipboard: bool,
}

#[derive(Args)]
pub struct ScreenshotArgs {
    /// The VM.
    pub name: String,
    /// The PNG file to write; - for standard output.
    pub file: PathBuf,
}

#[derive(Args)]
pub struct LogsArgs {
    /// The VM.
    pub name: String,
    /// Go on showing what comes.
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines.
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
    /// Which log: the guest's console, its UART (or virtio console) beside that, or what Tearless says itself.
    #[arg(long, value_name = "console|uart|virtio|vmm", default_value = "console")]
    pub source: LogSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogSource {
    /// What `console` shows.
    Console,
    /// The UART, where that is not the console.
    Uart,
    /// The virtio console, where that is not the console.
    Virtio,
    /// Messages of Tearless.
    Vmm,
}

/// For commands that need the agent in the guest.
#[derive(Args)]
pub struct WaitArgs {
    /// How long to wait for the guest while it boots, for example 30s or 2m.
    #[arg(id = "wait", long = "wait", value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub time: Duration,
}

#[derive(Args)]
pub struct ExecArgs {
    /// The VM.
    pub name: String,
    /// Pass our input on; that is the default.
    #[arg(short, long, overrides_with = "no_input")]
    pub input: bool,
    /// Give the program no input.
    #[arg(short, long, overrides_with = "input")]
    pub no_input: bool,
    /// Run it on a terminal; that is the default when input and output are terminals.
    #[arg(short, long, overrides_with = "no_tty")]
    pub tty: bool,
    /// Do not run it on a terminal.
    #[arg(short = 'T', long, overrides_with = "tty")]
    pub no_tty: bool,
    /// Run it as this user, a name or number; default: root.
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Set a variable of its environment; repeat it for more.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<OsString>,
    /// The folder to run it in; default: the user's home.
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Leave it running and print its process ID; it has no input and output.
    #[arg(short, long, conflicts_with_all = ["tty", "input"])]
    pub detach: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
    /// The program and its arguments; default: the user's shell.
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl ExecArgs {
    /// `command` as root, without a terminal, in a guest that is up.
    pub fn plain(name: &str, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            input: true,
            no_input: false,
            tty: false,
            no_tty: true,
            user: None,
            env: Vec::new(),
            workdir: None,
            detach: false,
            wait: WaitArgs { time: Duration::ZERO },
            command: command.iter().map(OsString::from).collect(),
        }
    }
}

#[derive(Args)]
pub struct CopyArgs {
    /// What to copy: NAME:PATH in a VM, a path on the host, or - for standard input.
    #[arg(value_name = "SOURCE")]
    pub source: OsString,
    /// Where to: NAME:PATH in a VM, a path on the host, or - for standard output. If it is a folder, into it.
    #[arg(value_name = "TARGET")]
    pub target: OsString,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub struct IpArgs {
    /// The VM.
    pub name: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub struct SshArgs {
    /// The VM.
    pub name: String,
    /// Log in as this user; default: root.
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
    /// What ssh is told besides: a command to run in the guest.
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Args)]
pub struct ForwardArgs {
    /// The VM.
    pub name: String,
    /// A port of the host and the guest's port that it leads to; repeat it for more.
    #[arg(short = 'p', long = "port", value_name = "[ADDR:]HOST[:GUEST]", required_unless_present = "all")]
    pub ports: Vec<String>,
    /// Every TCP port that programs in the guest listen at, as long as they do, under the same number at 127.0.0.1.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub struct AgentArgs {
    /// Where to write it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Args)]
pub struct ProxyArgs {
    /// The VM.
    pub name: String,
}

#[derive(Args)]
pub struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct InfoArgs {
    /// The VM.
    pub name: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct DeleteArgs {
    /// The VM.
    pub name: String,
    /// Do not ask.
    #[arg(short, long)]
    pub force: bool,
}

/// A number of seconds, or a number with `s`, `m` or `h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("give a time such as 30s, 2m or 1h".into()),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    // A year is for ever, and far from where clocks overflow.
    let seconds = seconds.filter(|s| *s <= 365 * 24 * 3600);
    seconds.map(Duration::from_secs).ok_or_else(|| "give a time such as 30s, 2m or 1h".into())
}

/// A number, decimal or after `0x`; or a word.
fn parse_ecid(text: &str) -> Result<Ecid, String> {
    match text {
        "recover" => Ok(Ecid::Recover),
        other => parse_new_ecid(other),
    }
}

fn parse_new_ecid(text: &str) -> Result<Ecid, String> {
    let number = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        _ if text == "random" => return Ok(Ecid::Random),
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        _ if text.starts_with('+') => None,
        _ => text.parse().ok(),
    };
    let number = number.filter(|number| *number != 0).map(Ecid::Number);
    number.ok_or_else(|| "give a number of up to 64 bits that is not 0, such as 0x1c4bb370c08694bb".into())
}

fn parse_engine(text: &str) -> Result<EngineChoice, String> {
    text.parse().map_err(|e| format!("{e}"))
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("say on or off".to_owned()),
    }
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|e| format!("{e}"))
}

fn parse_flavour(text: &str) -> Result<Flavour, String> {
    text.parse().map_err(|e| format!("{e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecids_are_numbers_or_words() {
        assert_eq!(parse_ecid("random"), Ok(Ecid::Random));
        assert_eq!(parse_ecid("recover"), Ok(Ecid::Recover));
        assert_eq!(parse_ecid("0xFFFFFFFFFFFFFFFF"), Ok(Ecid::Number(u64::MAX)));
        assert_eq!(parse_ecid("17"), Ok(Ecid::Number(17)));
        for bad in ["", "0", "0x", "0x0", "-1", "+1", "0x+1", "0x1ffffffffffffffff", "x"] {
            assert!(parse_ecid(bad).is_err(), "{bad}");
        }
        assert!(parse_new_ecid("recover").is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_time("0s"), Ok(Duration::ZERO));
        for bad in ["", "s", "-1", "1d", "1.5s", "99999999999999999999", "18446744073709551615h", "400000000"]
        {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
