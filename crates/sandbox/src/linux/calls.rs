//! System calls, by seccomp.
//!
//! The list is what the VMM was seen to use with all its devices, and what the C library uses for the same. Not among
//! them: starting programs, tracing and signalling others, namespaces, mounts, kernel modules, BPF, keys, and unix
//! sockets that can be connected. A call that is not listed does not exist (`ENOSYS`): the C library has a second way for
//! what is newer than this list.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use crate::Rules;

#[rustfmt::skip]
const ALWAYS: &[i64] = &[
    // Files.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_openat,
    libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_faccessat,
    libc::SYS_faccessat2, libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_mkdirat, libc::SYS_mknodat,
    libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_utimensat, libc::SYS_truncate, libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fsync,
    libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_syncfs, libc::SYS_flock, libc::SYS_fcntl,
    libc::SYS_copy_file_range, libc::SYS_sendfile, libc::SYS_splice, libc::SYS_tee, libc::SYS_vmsplice,
    libc::SYS_fadvise64, libc::SYS_readahead, libc::SYS_name_to_handle_at, libc::SYS_getxattr, libc::SYS_lgetxattr,
    libc::SYS_fgetxattr, libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_listxattr,
    libc::SYS_llistxattr, libc::SYS_flistxattr, libc::SYS_removexattr, libc::SYS_lremovexattr,
    libc::SYS_fremovexattr, libc::SYS_getcwd, libc::SYS_umask, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
    // Waiting.
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime, libc::SYS_signalfd4, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Memory.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk, libc::SYS_memfd_create,
    libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_munlock, libc::SYS_membarrier,
    // Threads, signals, time.
    libc::SYS_exit, libc::SYS_exit_group, libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list,
    libc::SYS_rseq, libc::SYS_set_tid_address, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending,
    libc::SYS_sigaltstack, libc::SYS_restart_syscall, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity, libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_getpriority,
    libc::SYS_setpriority, libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep, libc::SYS_gettimeofday, libc::SYS_getrandom, libc::SYS_uname, libc::SYS_sysinfo,
    libc::SYS_getrusage, libc::SYS_prlimit64, libc::SYS_getrlimit, libc::SYS_getuid, libc::SYS_geteuid,
    libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getgroups, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_capget, libc::SYS_getcpu,
    // Sockets that exist, and what was received through them.
    libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_getsockname,
    libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_sendto, libc::SYS_recvfrom,
    libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_shutdown,
];

/// Older forms of the above, which other hosts do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_unlink,
    libc::SYS_rename, libc::SYS_renameat, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_link, libc::SYS_symlink,
    libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_mknod, libc::SYS_utimes, libc::SYS_getdents,
    libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create, libc::SYS_epoll_wait,
    libc::SYS_eventfd, libc::SYS_arch_prctl, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[libc::SYS_renameat];

pub(super) fn filter(rules: &Rules) -> Result<String, String> {
    let program = program(rules).map_err(|e| e.to_string())?;
    apply_filter_all_threads(&program).map_err(|e| e.to_string())?;
    Ok("seccomp".to_owned())
}

fn program(rules: &Rules) -> Result<BpfProgram, seccompiler::BackendError> {
    let allowed = allowed(rules)?;
    let arch = std::env::consts::ARCH.try_into()?;
    // A program that already runs meets a call that does not exist with grace; one that is killed would take a guest's
    // data with it.
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(allowed, refuse, SeccompAction::Allow, arch)?.try_into()
}

type Allowed = BTreeMap<i64, Vec<SeccompRule>>;

fn allowed(rules: &Rules) -> Result<Allowed, seccompiler::BackendError> {
    let mut allowed: Allowed = ALWAYS.iter().chain(OLDER).map(|&call| (call, Vec::new())).collect();
    let is = |arg, value: i64| one(arg, SeccompCmpOp::Eq, value);
    let masked = |arg, mask: i64, value: i64| one(arg, SeccompCmpOp::MaskedEq(mask as u64), value);

    // Threads, not processes. `clone3` has its flags in memory, where no filter sees them; the C library does without.
    let thread = i64::from(libc::CLONE_THREAD);
    allowed.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
    allowed.insert(libc::SYS_tgkill, vec![is(0, i64::from(std::process::id()))?]);
    // Memory is never writable and executable in one mapping.
    let both = i64::from(libc::PROT_WRITE | libc::PROT_EXEC);
    let not_both = [0, libc::PROT_WRITE, libc::PROT_EXEC];
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let kinds = not_both.iter().map(|&kind| masked(2, both, kind.into()));
        allowed.insert(call, kinds.collect::<Result<_, _>>()?);
    }
    // Typing into our user's terminal would be running programs as our user.
    let not = |value: u64| SeccompCondition::new(1, Dword, SeccompCmpOp::Ne, value);
    let harmless = SeccompRule::new(vec![not(libc::TIOCSTI)?, not(libc::TIOCLINUX)?])?;
    allowed.insert(libc::SYS_ioctl, vec![harmless]);
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];
    let names = names.iter().map(|&name| is(0, name.into()));
    allowed.insert(libc::SYS_prctl, names.collect::<Result<_, _>>()?);
    // A pair of connected sockets leads nowhere; datagram sockets could be sent elsewhere.
    allowed.insert(libc::SYS_socketpair, vec![masked(1, 0xf, libc::SOCK_STREAM.into())?]);
    let mut sockets = Vec::new();
    if rules.network {
        sockets.extend([
            is(0, libc::AF_INET.into())?,
            is(0, libc::AF_INET6.into())?,
            is(0, libc::AF_NETLINK.into())?,
        ]);
    } else if !rules.connect.is_empty() {
        // Landlock knows the ports of TCP; there must be no other protocol to get around it.
        for family in [libc::AF_INET, libc::AF_INET6] {
            sockets.push(tcp(family)?);
        }
    }
    if rules.unix_sockets {
        sockets.push(is(0, libc::AF_UNIX.into())?);
    }
    if !sockets.is_empty() {
        allowed.insert(libc::SYS_socket, sockets);
    }
    Ok(allowed)
}

/// Sockets of `family` for TCP.
fn tcp(family: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |arg, op, value: i32| SeccompCondition::new(arg, Dword, op, value as u64);
    SeccompRule::new(vec![
        condition(0, SeccompCmpOp::Eq, family)?,
        condition(1, SeccompCmpOp::MaskedEq(0xf), libc::SOCK_STREAM)?,
        // The usual protocol, which is TCP; not MPTCP or SCTP, which Landlock does not know.
        condition(2, SeccompCmpOp::Eq, 0)?,
    ])
}

/// A rule of one condition on an argument's low 32 bits.
fn one(arg: u8, op: SeccompCmpOp, value: i64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(arg, Dword, op, value as u64)?])
}
