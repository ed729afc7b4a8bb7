//! The object that has the programs, with those left out that this kernel refuses.

use core::mem::MaybeUninit;
use core::net::IpAddr;

use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{MapCore as _, MapFlags, OpenMapMut, OpenObject, OpenProgramMut};

use super::error::Error;
use super::event::Event;
use super::loading;
use super::programs::{self, PROGRAMS};
use super::recorder::{Filter, Options};
use super::skeleton::{FlowSkel, FlowSkelBuilder, OpenFlowSkel};

/// `WAYS` of `state.h`: sockets in a bucket of the table.
const WAYS: u32 = 4;

/// Loads every program that nothing speaks against and that the kernel takes, and notes why it refuses
/// the others.
///
/// # Errors
/// If a privilege is missing, or the one program without which there is nothing is refused.
pub(super) fn load_all_taken<'a>(
    [first, second, third]: &'a mut [MaybeUninit<OpenObject>; 3],
    options: &Options,
    verdicts: &mut [Option<String>],
    alter: &dyn Fn(&mut OpenProgramMut<'_>),
) -> Result<FlowSkel<'a>, Error> {
    let (loaded, _) = loading::listening(|| load(first, options, verdicts, alter));
    let error = match loaded {
        Ok(skel) => return Ok(skel),
        Err(error) => error,
    };
    // Who may not load this one may load none; others may be forbidden for themselves.
    if let (Error::Permission, Some((Error::Permission, _))) =
        (error, alone(options, programs::STATE, alter))
    {
        return Err(Error::Permission);
    }
    // One of them is refused, which refuses all. Each look takes its time: first at those that some
    // kernels forbid.
    leave_out_refused(&[programs::PASS, programs::TABLE], options, verdicts, alter);
    let (loaded, _) = loading::listening(|| load(second, options, verdicts, alter));
    if loaded.is_ok() {
        return loaded;
    }
    let all = PROGRAMS.map(|program| program.name);
    leave_out_refused(&all, options, verdicts, alter);
    match loading::required(verdicts) {
        Some(reason) => Err(Error::Refused(reason)),
        None => load(third, options, verdicts, alter),
    }
}

/// Looks at each of these alone, if nothing speaks against it so far.
fn leave_out_refused(
    names: &[&str],
    options: &Options,
    verdicts: &mut [Option<String>],
    alter: &dyn Fn(&mut OpenProgramMut<'_>),
) {
    for name in names {
        if loading::reason(verdicts, name).is_some() {
            continue;
        }
        if let Some((_, reason)) = alone(options, name, alter) {
            loading::leave_out(verdicts, name, reason);
        }
    }
}

/// Opens and loads the programs that nothing speaks against.
fn load<'a>(
    storage: &'a mut MaybeUninit<OpenObject>,
    options: &Options,
    verdicts: &[Option<String>],
    alter: &dyn Fn(&mut OpenProgramMut<'_>),
) -> Result<FlowSkel<'a>, Error> {
    let runs = |name| loading::reason(verdicts, name).is_none();
    let (segments, stalls) = (runs(programs::SEGMENT), runs(programs::STALL));
    let by_address = runs(programs::WALK);
    // Storage is found only with the socket itself, and what is kept for each segment is in such.
    let has_table = by_address || (runs(programs::TABLE) && !segments && !stalls);
    let table = if has_table && !is_left_out(options, programs::TABLE) {
        options.table
    } else {
        0
    };
    let mut open = open(storage, options, segments, stalls, table, by_address)?;
    for mut program in open.open_object_mut().progs_mut() {
        let place = PROGRAMS.iter().position(|p| program.name() == p.name);
        let wanted = place
            .and_then(|n| verdicts.get(n))
            .is_some_and(Option::is_none);
        program.set_autoload(wanted);
        alter(&mut program);
    }
    open.load().map_err(|e| Error::of("load the programs", &e))
}

fn is_left_out(options: &Options, name: &str) -> bool {
    options.without.iter().any(|w| w == programs::short(name))
}

/// Why the kernel refuses this program, if it does, and that in words.
fn alone(
    options: &Options,
    name: &str,
    alter: &dyn Fn(&mut OpenProgramMut<'_>),
) -> Option<(Error, String)> {
    let verdicts: Vec<_> = PROGRAMS
        .iter()
        .map(|program| (program.name != name).then(String::new))
        .collect();
    let mut storage = MaybeUninit::uninit();
    let (loaded, said) =
        loading::listening(|| load(&mut storage, options, &verdicts, alter).map(drop));
    let error = loaded.err()?;
    let reason = match (&error, said) {
        // What the verifier said, if anything, is not why.
        (Error::Permission, _) => "the kernel refuses it: it is not permitted here".to_owned(),
        (_, Some(said)) => format!("the kernel refuses it: {said}"),
        (error, None) => format!("the kernel refuses it: {error}"),
    };
    Some((error, reason))
}

fn open<'a>(
    storage: &'a mut MaybeUninit<OpenObject>,
    options: &Options,
    segments: bool,
    stalls: bool,
    table: u32,
    by_address: bool,
) -> Result<OpenFlowSkel<'a>, Error> {
    let failed = |e| Error::of("open the programs", &e);
    let mut open = FlowSkelBuilder::default().open(storage).map_err(failed)?;
    let filter = &options.filter;
    // By the upper bits of a product, which are none where there is one bucket.
    let bits = (table / WAYS).checked_ilog2().unwrap_or(0);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        let config = &mut rodata.config;
        config.cgroup = filter.cgroup.unwrap_or(0);
        config.netns = filter.netns.unwrap_or(0);
        config.sample = filter.sample;
        config.ports = count(filter.ports.len());
        config.prefixes = count(filter.prefixes.len());
        config.watermark = options.ring / 4;
        config.segments = segments.into();
        config.stalls = stalls.into();
        config.table_shift = if bits > 0 { u64::BITS - bits } else { 0 };
        config.by_address = by_address.into();
        debug_assert_eq!(usize::try_from(rodata.event_size), Ok(Event::LEN));
        debug_assert_eq!(usize::try_from(rodata.wide_event_size), Ok(Event::WIDE_LEN));
    }
    open.maps.table.set_max_entries(1 << bits).map_err(failed)?;
    if !stalls {
        open.maps.stalls.set_max_entries(1).map_err(failed)?;
    }
    if by_address {
        let apart = |map: &mut OpenMapMut<'_>| {
            map.set_max_entries(options.by_address.max(1))
                .map_err(failed)
        };
        apart(&mut open.maps.states_by_address)?;
        if segments {
            apart(&mut open.maps.segments_by_address)?;
        }
    }
    open.maps
        .events
        .set_max_entries(options.ring)
        .map_err(failed)?;
    Ok(open)
}

/// Tells the programs which connections are asked for.
pub(super) fn fill_filters(skel: &FlowSkel<'_>, filter: &Filter) -> Result<(), Error> {
    let failed = |e| Error::of("fill the filters", &e);
    for port in &filter.ports {
        skel.maps
            .ports
            .update(&port.to_ne_bytes(), &[1], MapFlags::ANY)
            .map_err(failed)?;
    }
    for (address, len) in &filter.prefixes {
        let (octets, len) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), u32::from(*len) + 96),
            IpAddr::V6(v6) => (v6.octets(), u32::from(*len)),
        };
        let key = [len.to_ne_bytes().as_slice(), &octets].concat();
        skel.maps
            .prefixes
            .update(&key, &[1], MapFlags::ANY)
            .map_err(failed)?;
    }
    Ok(())
}
