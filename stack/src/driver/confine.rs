//! What a thread that parses packets gives up before the first one comes (threats T60): a system call filter of its own.
//!
//! It goes on reading and writing the descriptors that it has and those that it opens towards the network. It cannot open
//! files, execute or start programs, look into other processes, change routes, mounts, namespaces or the kernel. The
//! filter is of the thread and cannot be taken back; whatever it starts inherits it. It is no wall within the process, whose
//! memory all threads share: it takes away the calls that code injected by a packet would make next.
#![expect(unsafe_code, reason = "nix has no seccomp")]

use libc::{sock_filter, sock_fprog};
use nix::errno::Errno;

/// What is refused with EPERM.
const REFUSED: &[libc::c_long] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_memfd_create,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    // Programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // Keys of the kernel.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The system.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_personality,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// Requests of `ioctl` that are refused too: routes and addresses can be changed without netlink.
const REFUSED_IOCTLS: &[libc::c_ulong] = &[
    libc::SIOCADDRT as _,
    libc::SIOCDELRT as _,
    libc::SIOCSIFFLAGS as _,
    libc::SIOCSIFADDR as _,
    libc::SIOCSIFNETMASK as _,
    libc::SIOCSIFMTU as _,
    libc::SIOCSARP as _,
    libc::SIOCDARP as _,
];

/// Offsets into `struct seccomp_data`; of an argument its lower half (both architectures are little-endian).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: [u32; 3] = [16, 24, 32];

#[cfg(target_arch = "x86_64")]
const OWN_ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const OWN_ARCHITECTURE: u32 = 0xC000_00B7;

/// System calls of x32 have this bit: the same calls under other numbers.
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7FFF_0000;
const END_PROCESS: u32 = 0x8000_0000;

const fn refuse(errno: i32) -> u32 {
    0x0005_0000 | errno.unsigned_abs()
}

/// A statement of classic BPF, whose codes have 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "codes of classic BPF have 16 bits")]
const fn statement(code: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: yes, jf: no, k }
}

const fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

const fn give(what: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, what, 0, 0)
}

/// Compares the loaded word with `k`; how many statements are left out if it compares, and if not.
const fn ask(comparison: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    statement(libc::BPF_JMP | comparison | libc::BPF_K, k, yes, no)
}

/// The filter's program. Each question has its answer directly behind it, so that no jump is long.
fn program() -> Vec<sock_filter> {
    let word = |n: libc::c_long| u32::try_from(n).expect("numbers of system calls are small");
    let flag = |n: i32| n.unsigned_abs();
    let equal = libc::BPF_JEQ;
    let mut p = vec![load(ARCHITECTURE), ask(equal, OWN_ARCHITECTURE, 1, 0), give(END_PROCESS)];
    p.extend([load(NUMBER), ask(libc::BPF_JGE, X32, 0, 1), give(refuse(libc::ENOSYS))]);
    for number in REFUSED {
        p.extend([ask(equal, word(*number), 0, 1), give(refuse(libc::EPERM))]);
    }
    // It hides its flags behind a pointer; libraries fall back to `clone` without it.
    p.extend([ask(equal, word(libc::SYS_clone3), 0, 1), give(refuse(libc::ENOSYS))]);
    // A thread, but no process.
    p.extend([ask(equal, word(libc::SYS_clone), 0, 4), load(ARGUMENTS[0])]);
    p.extend([ask(libc::BPF_JSET, flag(libc::CLONE_THREAD), 1, 0), give(refuse(libc::EPERM)), give(ALLOW)]);
    // Netlink: who listens is asked (sock_diag), nothing is changed.
    p.extend([ask(equal, word(libc::SYS_socket), 0, 6), load(ARGUMENTS[0])]);
    p.extend([ask(equal, flag(libc::AF_NETLINK), 0, 3), load(ARGUMENTS[2])]);
    p.extend([ask(equal, flag(libc::NETLINK_SOCK_DIAG), 1, 0), give(refuse(libc::EPERM)), give(ALLOW)]);
    let ioctls = REFUSED_IOCTLS.iter().filter_map(|n| u32::try_from(*n).ok());
    let ioctls: Vec<_> = ioctls.flat_map(|n| [ask(equal, n, 0, 1), give(refuse(libc::EPERM))]).collect();
    let over = u8::try_from(ioctls.len() + 1).expect("a few requests");
    p.extend([ask(equal, word(libc::SYS_ioctl), 0, over), load(ARGUMENTS[1])]);
    p.extend(ioctls);
    p.push(give(ALLOW));
    p
}

/// Confines the calling thread for the rest of its life, and what it starts.
///
/// # Errors
/// The kernel has no such filters.
pub fn this_thread() -> nix::Result<()> {
    let mut program = program();
    let filter = sock_fprog {
        len: u16::try_from(program.len()).expect("a short program"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: a call with plain numbers; it changes what the process may become, not its memory.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `filter` and the program that it points to are alive during the call, which copies them. That the thread
    // does no speculation of other processes' memory is not this filter's business (SPEC_ALLOW).
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            std::ptr::from_ref(&filter),
        )
    };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    use std::io::{Read as _, Write as _};
    use std::net::UdpSocket;

    fn denied<T: std::fmt::Debug>(what: &str, done: std::io::Result<T>) {
        match done {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {}
            other => panic!("{what}: {other:?}"),
        }
    }

    #[test]
    fn t60_a_confined_thread_opens_runs_and_changes_nothing_and_works_on() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let inside = std::thread::spawn(move || {
            this_thread().unwrap();
            denied("open", std::fs::File::open("/etc/passwd"));
            denied("create", std::fs::File::create("/tmp/t60"));
            denied("keys in memory", std::fs::File::open("/proc/self/mem"));
            denied("remove", std::fs::remove_file("/tmp/t60"));
            denied("execute", std::process::Command::new("/bin/true").spawn());
            let netlink = |protocol| {
                socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(protocol))
                    .map_err(std::io::Error::from)
            };
            denied("routes", netlink(SockProtocol::NetlinkRoute));
            denied("firewall", netlink(SockProtocol::NetlinkNetFilter));
            assert!(netlink(SockProtocol::NetlinkSockDiag).is_ok());
            let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
            // SAFETY: the kernel refuses the call before it looks at the pointer.
            let route = unsafe {
                libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&plain), libc::SIOCADDRT, std::ptr::null::<u8>())
            };
            denied("routes without netlink", Errno::result(route).map_err(std::io::Error::from));
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
            denied("namespaces", unshared.map_err(std::io::Error::from));
            let signal = nix::sys::signal::kill(nix::unistd::Pid::from_raw(1), None);
            denied("signals", signal.map_err(std::io::Error::from));
            // SAFETY: a request that reads nothing; it is refused.
            let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME) };
            denied("debugging", Errno::result(traced).map_err(std::io::Error::from));

            // What a worker does all day.
            plain.send_to(b"packet", plain.local_addr().unwrap()).unwrap();
            let mut got = [0; 6];
            assert_eq!(plain.recv(&mut got).unwrap(), 6);
            writer.write_all(&got).unwrap();
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            let status = std::thread::spawn(|| std::fs::read("/proc/self/status")).join().unwrap();
            denied("what it starts", status);
        });
        inside.join().unwrap();
        let mut got = [0; 6];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"packet");
        assert!(std::fs::File::open("/etc/passwd").is_ok(), "the other threads are not confined");
    }
}
