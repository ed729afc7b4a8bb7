//! Calls of libbpf, each with what makes it sound.

use core::ffi::CStr;
use core::ptr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys as raw;

use super::Error;
use super::insn::Insn;
use super::program::Hook;
use super::session::Session;

/// Bytes of the verifier's log that are kept.
const LOG_LEN: usize = 1 << 20;

/// Loads a program for the traffic-control hooks.
pub(crate) fn load_program(name: &CStr, instructions: &[Insn]) -> Result<OwnedFd, Error> {
    let mut log = Vec::new();
    let error = match try_load(name, instructions, &mut log) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // Once more, to be told why.
    log.resize(LOG_LEN, 0);
    match try_load(name, instructions, &mut log) {
        Ok(program) => Ok(program),
        Err(_) => Err(Error::Verifier {
            program: name.to_string_lossy().into_owned(),
            reason: reason(&log),
            source: error,
        }),
    }
}

fn try_load(name: &CStr, instructions: &[Insn], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut options = raw::bpf_prog_load_opts {
        sz: size_of::<raw::bpf_prog_load_opts>() as u64,
        ..raw::bpf_prog_load_opts::default()
    };
    if !log.is_empty() {
        options.log_level = 1;
        options.log_size = u32::try_from(log.len()).unwrap_or(0);
        options.log_buf = log.as_mut_ptr().cast();
    }
    // SAFETY: name and licence end with zero; `Insn` has the layout of `bpf_insn` and there are as
    // many as is said; the log buffer is as long as is said and outlives the call.
    let fd = unsafe {
        raw::bpf_prog_load(
            raw::BPF_PROG_TYPE_SCHED_CLS,
            name.as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr().cast(),
            instructions.len() as u64,
            &raw mut options,
        )
    };
    owned(fd)
}

/// The last lines of a verifier's log, which say why.
pub(crate) fn reason(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let text = text.trim_end_matches('\0');
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("processed "))
        .rev()
        .take(2)
        .collect();
    lines.reverse();
    lines.join("; ")
}

/// Attaches a program to an interface by a tcx link, which is gone when it is closed.
pub(crate) fn attach_tcx(
    program: BorrowedFd<'_>,
    interface: u32,
    hook: Hook,
) -> io::Result<OwnedFd> {
    let attach_type = match hook {
        Hook::Ingress => raw::BPF_TCX_INGRESS,
        Hook::Egress => raw::BPF_TCX_EGRESS,
    };
    // SAFETY: there are no options, and descriptors are only used by number.
    let fd = unsafe {
        raw::bpf_link_create(
            program.as_raw_fd(),
            interface.cast_signed(),
            attach_type,
            ptr::null(),
        )
    };
    owned(fd)
}

/// Whether the kernel has tcx links: it is asked for one to an interface that there cannot be.
pub fn has_tcx(session: &Session) -> bool {
    let tried = attach_tcx(
        session.any_program(),
        i32::MAX.cast_unsigned(),
        Hook::Ingress,
    );
    tried.is_err_and(|e| e.raw_os_error() == Some(libc::ENODEV))
}

/// Puts another program into the place of a link's.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: there are no options, and descriptors are only used by number.
    check(unsafe { raw::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), ptr::null()) })
}

/// `MEMBARRIER_CMD_GLOBAL` of membarrier(2).
const MEMBARRIER_GLOBAL: libc::c_int = 1;

/// Waits until every run of a program has ended that has begun before: the kernel waits for the end
/// of all that its processors are within (`synchronize_rcu`).
pub(crate) fn wait_for_programs() {
    // SAFETY: the call takes no pointers.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) };
    if done != 0 {
        // Kernels for real-time work do not wait (nohz_full). A run takes microseconds.
        std::thread::sleep(core::time::Duration::from_millis(100));
    }
}

/// A filter of the traffic-control layer, as kernels before tcx have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcFilter {
    pub(crate) interface: u32,
    pub(crate) hook: Hook,
    pub(crate) handle: u32,
    pub(crate) priority: u32,
}

fn tc_hook(interface: u32, hook: Hook) -> raw::bpf_tc_hook {
    raw::bpf_tc_hook {
        sz: size_of::<raw::bpf_tc_hook>() as u64,
        ifindex: interface.cast_signed(),
        attach_point: match hook {
            Hook::Ingress => raw::BPF_TC_INGRESS,
            Hook::Egress => raw::BPF_TC_EGRESS,
        },
        ..raw::bpf_tc_hook::default()
    }
}

fn tc_options(filter: &TcFilter) -> raw::bpf_tc_opts {
    raw::bpf_tc_opts {
        sz: size_of::<raw::bpf_tc_opts>() as u64,
        handle: filter.handle,
        priority: filter.priority,
        ..raw::bpf_tc_opts::default()
    }
}

/// Attaches a program by a filter, or puts it into the place of the one that is there.
pub(crate) fn attach_tc(program: BorrowedFd<'_>, filter: &TcFilter) -> io::Result<()> {
    let mut hook = tc_hook(filter.interface, filter.hook);
    // SAFETY: the hook has its size in it and outlives the call.
    match check(unsafe { raw::bpf_tc_hook_create(&raw mut hook) }) {
        Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
        _ => {}
    }
    let mut options = tc_options(filter);
    options.prog_fd = program.as_raw_fd();
    options.flags = raw::BPF_TC_F_REPLACE;
    // SAFETY: hook and options have their sizes in them and outlive the call.
    check(unsafe { raw::bpf_tc_attach(&raw const hook, &raw mut options) })
}

/// Removes a filter.
pub(crate) fn detach_tc(filter: &TcFilter) -> io::Result<()> {
    let hook = tc_hook(filter.interface, filter.hook);
    let options = tc_options(filter);
    // SAFETY: hook and options have their sizes in them and outlive the call.
    check(unsafe { raw::bpf_tc_detach(&raw const hook, &raw const options) })
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a call of libbpf returns: less than zero is an error.
fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(())
}

/// What a program made of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// What it returned.
    pub value: u32,
    /// The packet as it left it.
    pub packet: Vec<u8>,
    /// Nanoseconds that one run took on average.
    pub ns: u32,
}

/// Runs a program on a packet, without any interface (BPF_PROG_TEST_RUN). `context` is the
/// beginning of `struct __sk_buff`.
pub(crate) fn run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &[u32],
    repeat: i32,
) -> io::Result<Ran> {
    let mut out = vec![0; packet.len() + 512];
    let mut options = raw::bpf_test_run_opts {
        sz: size_of::<raw::bpf_test_run_opts>() as u64,
        data_in: packet.as_ptr().cast(),
        data_size_in: u32::try_from(packet.len()).unwrap_or(0),
        data_out: out.as_mut_ptr().cast(),
        data_size_out: u32::try_from(out.len()).unwrap_or(0),
        repeat,
        ..raw::bpf_test_run_opts::default()
    };
    if !context.is_empty() {
        options.ctx_in = context.as_ptr().cast();
        options.ctx_size_in = u32::try_from(size_of_val(context)).unwrap_or(0);
    }
    // SAFETY: every buffer is as long as is said and outlives the call.
    check(unsafe { raw::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) })?;
    out.truncate(options.data_size_out as usize);
    Ok(Ran {
        value: options.retval,
        packet: out,
        ns: options.duration,
    })
}
