//! The process that holds a machine which stays.

use core::time::Duration;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use plumb_channel::{Configure, Host, Limits, News, Relay};
use plumb_link::{Clock, capability, memory};
use plumb_probe::Config;
use plumb_vm::Vm;
use plumb_wire::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::machine::Chosen;
use super::state::{Claim, Socket, State};
use super::status::Status;
use super::uplink;
use crate::args::{Mac, MachineOptions};
use crate::command::interrupt::Interrupts;
use crate::exit::{Exit, Failure};

/// The name under which this program is started to hold a machine. It reads no command line then:
/// that takes more memory than all the rest, and there may be hundreds of holders.
pub(crate) const HOLDER: &str = "plumb-holder";

/// What a holder is told, as JSON in its only argument.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// Name of the machine, if it is to have a certain one.
    pub(super) name: Option<String>,
    /// The machine.
    pub(super) options: MachineOptions,
}

/// Says whether this process was started to hold a machine.
pub(crate) fn is_holder() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| name == HOLDER)
}

/// Does what the order in the arguments says.
pub(crate) fn main() -> anyhow::Result<ExitCode> {
    memory::spare();
    let order = std::env::args().nth(1).unwrap_or_default();
    let order: Order = serde_json::from_str(&order)?;
    run(order.name.as_deref(), &order.options).map(ExitCode::from)
}

/// Starts a machine and holds it until it ends or is to end. What is written to standard output is
/// for the process that started this one: [`READY`] and the status, when the machine answers.
fn run(name: Option<&str>, options: &MachineOptions) -> anyhow::Result<Exit> {
    // A session of its own: no terminal ends the machine. It may be the first of one already.
    let _ = rustix::process::setsid();
    if options.merge {
        // Where that cannot be, the machine says so.
        let _ = memory::merge();
    }
    let mut interrupts = Interrupts::watch()?;
    let claim = State::open()?.claim(name)?;
    std::env::set_current_dir("/")?;
    let mut holder = Holder::start(claim, options)?;
    // Whoever is here first needs nothing more.
    capability::drop_all().map_err(|e| Failure::permission(e.to_string()))?;
    holder.greet(PATIENCE)?;
    tell_parent(&holder.status())?;
    // There may be hundreds of holders.
    memory::trim();
    let signals = interrupts.fd()?;
    let end = loop {
        match holder.turn(signals.as_fd()) {
            Ok(None) if interrupts.count() == 0 => {}
            Ok(None) => break End::Asked,
            Ok(Some(end)) => break end,
            Err(error) => break End::Failed(format!("its holder failed: {error}")),
        }
    };
    holder.end(end);
    Ok(Exit::Reached)
}

/// What the line begins with that says that a machine answers.
pub(super) const READY: &str = "ready ";

/// How long a machine may take to answer: long enough for a BIOS in software on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client of the control socket may take to say what it wants.
const HASTE: Duration = Duration::from_millis(200);

/// Bytes that are moved at a time.
const BUFFER: usize = 16 * 1024;

/// Most reads of the console at a time.
const MOST_READS: u32 = 4;

/// Why a machine ends.
enum End {
    /// Somebody asked for it.
    Asked,
    /// Something is wrong.
    Failed(String),
}

#[derive(Debug)]
struct Holder {
    claim: Claim,
    vm: Vm,
    status: Status,
    clock: Clock,
    started: Instant,
    jobs: UnixListener,
    control: UnixListener,
    relay: Relay,
    client: Option<UnixStream>,
    /// Whoever asked for the end, and waits for it.
    waiting: Vec<UnixStream>,
    buffer: Box<[u8]>,
}

impl Holder {
    fn start(claim: Claim, options: &MachineOptions) -> anyhow::Result<Self> {
        let clock = Clock::new();
        let chosen = Chosen::of(options)?;
        chosen.announce();
        let mut uplink = uplink::open(options)?;
        let started = clock.now();
        let vm = chosen.launch(
            Some(&claim.place.name),
            options,
            &mut uplink,
            plumb_vm::IMAGE,
            &[],
        )?;
        let prefix = |(address, len): &(core::net::IpAddr, u8)| format!("{address}/{len}");
        let status = Status {
            name: claim.place.name.clone(),
            runner: chosen.name().to_string(),
            uses: chosen.uses.clone(),
            uplink: uplink.towards.clone(),
            addresses: uplink.addresses.iter().map(prefix).collect(),
            gateways: uplink.gateways.clone(),
            mac: Mac(uplink.mac).to_string(),
            memory_mib: options.mem,
            busy: false,
            uptime_ns: 0,
            jobs: 0,
            clients: 0,
            pid: vm.pid,
            holder_pid: std::process::id(),
        };
        let (jobs, control) = (
            claim.place.listen(Socket::Job)?,
            claim.place.listen(Socket::Control)?,
        );
        Ok(Self {
            claim,
            vm,
            status,
            clock,
            started,
            jobs,
            control,
            relay: Relay::new(),
            client: None,
            waiting: Vec::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
        })
    }

    /// Waits until the engine in the machine answers.
    fn greet(&mut self, patience: Duration) -> Result<(), Failure> {
        let configure = Configure {
            session: 0,
            engine: Config::default(),
            seed: 0,
            packets: false,
        };
        let mut host = Host::new(&configure, Limits::default(), self.clock.now());
        let deadline = self.clock.now() + patience;
        let mut ended = false;
        loop {
            let wrong = |said: &str| Failure::usage(format!("the machine {said}"));
            if let Ok(len) = self.vm.channel.write(host.transmit()) {
                host.handle_sent(len);
            }
            if let Ok(len) = self.vm.channel.read(&mut self.buffer) {
                host.handle_bytes(&self.buffer[..len], self.clock.now())
                    .map_err(|fault| wrong(&format!("makes no sense: {fault}")))?;
                // The relay has to know where frames begin.
                self.relay
                    .handle_guest(&self.buffer[..len])
                    .map_err(|fault| wrong(&format!("makes no sense: {fault}")))?;
            }
            while let Some(news) = host.poll_news() {
                if let News::Ready(_) = news {
                    self.relay.end();
                    return Ok(());
                }
            }
            self.log();
            if ended {
                let words = self.last_words();
                return Err(wrong(&format!("has ended before it answered{words}")));
            }
            if self.clock.now() > deadline {
                let words = self.last_words();
                return Err(wrong(&format!("does not answer{words}")));
            }
            let mut fds = [
                PollFd::new(&self.vm.channel, PollFlags::IN),
                PollFd::new(&self.vm.console, PollFlags::IN),
                PollFd::new(&self.vm.process, PollFlags::IN),
            ];
            let pause = Timespec::try_from(Duration::from_millis(100)).ok();
            let _ = poll(&mut fds, pause.as_ref());
            ended = !fds[2].revents().is_empty();
        }
    }

    /// Waits for something to do, and does it. Gives the reason if the machine is to end.
    fn turn(&mut self, signals: BorrowedFd<'_>) -> io::Result<Option<End>> {
        let flag = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let to_guest = !self.relay.to_guest().is_empty();
        let to_client = !self.relay.to_client().is_empty();
        let channel =
            flag(self.relay.wants_guest(), PollFlags::IN) | flag(to_guest, PollFlags::OUT);
        let mut fds = vec![
            PollFd::from_borrowed_fd(signals, PollFlags::IN),
            PollFd::new(&self.vm.process, PollFlags::IN),
            PollFd::new(&self.vm.console, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&self.vm.channel, channel),
        ];
        match &self.client {
            None => fds.push(PollFd::new(&self.jobs, PollFlags::IN)),
            Some(client) => {
                let wanted = flag(self.relay.wants_client(), PollFlags::IN)
                    | flag(to_client, PollFlags::OUT);
                fds.push(PollFd::new(client, wanted));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[2] {
            self.log();
        }
        if ready[1] {
            let words = self.last_words();
            return Ok(Some(End::Failed(format!("the machine has ended{words}"))));
        }
        if ready[3] && self.answer()? {
            return Ok(Some(End::Asked));
        }
        if ready[4]
            && let Some(end) = self.guest()?
        {
            return Ok(Some(end));
        }
        if ready[5] {
            match self.client.take() {
                None => self.accept()?,
                Some(client) => self.serve(client),
            }
        }
        Ok(None)
    }

    /// Moves bytes from and to the machine.
    fn guest(&mut self) -> io::Result<Option<End>> {
        if self.relay.wants_guest() {
            match self.vm.channel.read(&mut self.buffer) {
                Ok(0) => {
                    let words = self.last_words();
                    return Ok(Some(End::Failed(format!("the machine has hung up{words}"))));
                }
                Ok(len) => {
                    if let Err(fault) = self.relay.handle_guest(&self.buffer[..len]) {
                        return Ok(Some(End::Failed(format!(
                            "the machine makes no sense: {fault}"
                        ))));
                    }
                }
                Err(e) if is_passing(&e) => {}
                Err(e) => return Err(e),
            }
        }
        if !self.relay.to_guest().is_empty() {
            match self.vm.channel.write(self.relay.to_guest()) {
                Ok(len) => self.relay.sent_to_guest(len),
                Err(e) if is_passing(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Takes the next client.
    fn accept(&mut self) -> io::Result<()> {
        match self.jobs.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(true)?;
                self.relay.begin();
                self.client = Some(client);
                Ok(())
            }
            Err(e) if is_passing(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Moves bytes from and to the client; one that hangs up or makes no sense is dismissed.
    fn serve(&mut self, mut client: UnixStream) {
        let mut serve = || -> io::Result<bool> {
            if !self.relay.to_client().is_empty() {
                match client.write(self.relay.to_client()) {
                    Ok(len) => self.relay.sent_to_client(len),
                    Err(e) if is_passing(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            if self.relay.wants_client() {
                match client.read(&mut self.buffer) {
                    Ok(0) => return Ok(false),
                    Ok(len) => return Ok(self.relay.handle_client(&self.buffer[..len]).is_ok()),
                    Err(e) if is_passing(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(true)
        };
        if matches!(serve(), Ok(true)) {
            self.client = Some(client);
        } else {
            self.relay.end();
        }
    }

    /// Answers a client of the control socket, and says whether it wants the end.
    fn answer(&mut self) -> io::Result<bool> {
        let mut client = match self.control.accept() {
            Ok((client, _)) => client,
            Err(e) if is_passing(&e) => return Ok(false),
            Err(e) => return Err(e),
        };
        client.set_nonblocking(false)?;
        client.set_read_timeout(Some(HASTE))?;
        client.set_write_timeout(Some(HASTE))?;
        let mut word = [0; 16];
        let len = client.read(&mut word).unwrap_or(0);
        match &word[..len] {
            b"status\n" => {
                let mut line = serde_json::to_vec(&self.status())?;
                line.push(b'\n');
                // Whoever asked may be gone.
                let _ = client.write_all(&line);
                Ok(false)
            }
            b"stop\n" => {
                self.waiting.push(client);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn status(&self) -> Status {
        let uptime = self.clock.now().since(self.started);
        Status {
            busy: self.relay.is_serving(),
            uptime_ns: u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX),
            jobs: self.relay.jobs(),
            clients: self.relay.clients(),
            ..self.status.clone()
        }
    }

    /// Puts what the console says into the log: what there is, but not without end.
    fn log(&mut self) {
        for _ in 0..MOST_READS {
            let Ok(len @ 1..) = rustix::io::read(&self.vm.console, &mut *self.buffer) else {
                return;
            };
            // The directory may be gone, or its disk full: the machine can do without a log.
            if let Ok(mut log) = self.claim.place.log() {
                let _ = log.write_all(&self.buffer[..len]);
            }
        }
    }

    /// The last lines of the log, for the end of a sentence.
    fn last_words(&mut self) -> String {
        self.log();
        let logs = self.claim.place.logs();
        let text = logs.last().and_then(|path| std::fs::read(path).ok());
        let text = text.unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(1000)..]);
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        if lines.is_empty() {
            return ", and said nothing".to_owned();
        }
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        format!("; its last words: {}", lines.join(" / "))
    }

    /// Ends the machine; what it left is removed unless it ended by itself.
    fn end(self, end: End) {
        let Self {
            claim, vm, waiting, ..
        } = self;
        drop(vm);
        match end {
            End::Asked => drop(claim),
            End::Failed(reason) => claim.leave_word(&reason),
        }
        // Who waits for the end sees it when the kernel closes these, which it does late.
        core::mem::forget(waiting);
    }
}

/// Whether to try again later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Tells the process that started this one that the machine answers, and lets go of what it shares
/// with that.
fn tell_parent(status: &Status) -> anyhow::Result<()> {
    let line = format!("{READY}{}\n", serde_json::to_string(status)?);
    io::stdout().write_all(line.as_bytes())?;
    io::stdout().flush()?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
