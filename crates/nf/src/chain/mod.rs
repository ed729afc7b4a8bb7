//! Functions in a row, as one function.

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::{Counter, Detail, Frame, Function, Output};

/// How often frames may turn round between the functions of a chain within one call. What still
/// goes to and fro then would do so for ever.
const MOST_TURNS: usize = 64;

/// Functions that stand beside each other, each one's right neighbour being the next one's left one.
///
/// Frames go from one to the next without being copied, and in the same instant; each function keeps
/// its own state, timeouts and counters. Functions can be added and taken out at any time.
#[derive(Debug)]
pub struct Chain<F> {
    members: Vec<Member<F>>,
    next_id: u32,
    /// Frames that leave the chain, until the call ends.
    leaving: Vec<(Port, Frame)>,
    batch: Vec<Frame>,
    /// Frames are handed in one by one, and what is due comes first, as a [`Player`] does.
    ///
    /// [`Player`]: crate::Player
    singly: bool,
    /// Nothing comes from the left any more.
    input_ended: bool,
    turned_too_often: u64,
}

/// A function's name in its chain for as long as it is there; never used twice in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionId(u32);

#[derive(Debug)]
struct Member<F> {
    id: FunctionId,
    name: String,
    function: F,
    /// What waits to be handed to it, by the port at which it arrives. Empty between two calls.
    arriving: [Vec<Frame>; 2],
}

impl<F: Function> Chain<F> {
    /// A chain of nothing, which passes everything on.
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            next_id: 0,
            leaving: Vec::new(),
            batch: Vec::new(),
            singly: false,
            input_ended: false,
            turned_too_often: 0,
        }
    }

    /// The same chain for a [`Player`](crate::Player): what leaves it to the right is what would leave
    /// the last of as many players, each of which reads what the one before has written.
    #[must_use]
    pub fn in_virtual_time(mut self) -> Self {
        self.singly = true;
        self
    }

    /// Adds a function at the right end. The name is for people.
    pub fn push(&mut self, name: impl Into<String>, function: F) -> FunctionId {
        self.insert(self.members.len(), name, function)
    }

    /// Adds a function so that `at` functions stand on its left.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn insert(&mut self, at: usize, name: impl Into<String>, function: F) -> FunctionId {
        let id = FunctionId(self.next_id);
        self.next_id += 1;
        let member = Member {
            id,
            name: name.into(),
            function,
            arriving: [Vec::new(), Vec::new()],
        };
        self.members.insert(at, member);
        id
    }

    /// Takes a function out, with all that it holds back.
    pub fn remove(&mut self, id: FunctionId) -> Option<F> {
        let at = self.position(id)?;
        Some(self.members.remove(at).function)
    }

    /// Puts a function in the place of another, which is returned with all that it holds back.
    pub fn replace(&mut self, id: FunctionId, function: F) -> Option<F> {
        let at = self.position(id)?;
        Some(core::mem::replace(&mut self.members[at].function, function))
    }

    /// How many functions stand on the left of this one.
    pub fn position(&self, id: FunctionId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Says whether there are no functions.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The functions with their names, from left to right.
    pub fn functions(&self) -> impl Iterator<Item = (FunctionId, &str, &F)> {
        let members = self.members.iter();
        members.map(|member| (member.id, &member.name[..], &member.function))
    }

    /// The functions, from left to right.
    pub fn functions_mut(&mut self) -> impl Iterator<Item = &mut F> {
        self.members.iter_mut().map(|member| &mut member.function)
    }

    /// Hands on what arrives within the chain until all of it has left or is held back.
    fn settle(&mut self, now: Instant, out: &mut Output) {
        for _ in 0..MOST_TURNS {
            for at in 0..self.members.len() {
                self.hand_in(at, Port::Left, now, out);
            }
            for at in (0..self.members.len()).rev() {
                self.hand_in(at, Port::Right, now, out);
            }
            if self.members.iter().all(Member::has_taken_all) {
                break;
            }
        }
        for member in &mut self.members {
            for frame in member.arriving.iter_mut().flat_map(|queue| queue.drain(..)) {
                self.turned_too_often += 1;
                out.recycle(frame);
            }
        }
        core::mem::swap(out.sent(), &mut self.leaving);
    }

    /// Hands a function what has arrived at one of its ports.
    fn hand_in(&mut self, at: usize, from: Port, now: Instant, out: &mut Output) {
        let queue = &mut self.members[at].arriving[index(from)];
        if queue.is_empty() {
            return;
        }
        let mut batch = core::mem::replace(queue, core::mem::take(&mut self.batch));
        if self.singly {
            let mut single = Vec::with_capacity(1);
            for frame in batch.drain(..) {
                // What a function does with a frame may have to be done before the next one comes.
                self.time_out(at, now, out);
                single.push(frame);
                self.run(at, from, &mut single, now, out);
            }
        } else {
            self.run(at, from, &mut batch, now, out);
        }
        self.batch = batch;
    }

    fn run(
        &mut self,
        at: usize,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        let function = &mut self.members[at].function;
        function.handle_frames(from, batch, now, out);
        for frame in batch.drain(..) {
            out.recycle(frame);
        }
        self.distribute(at, out);
    }

    /// Lets a function do all that is due.
    fn time_out(&mut self, at: usize, now: Instant, out: &mut Output) {
        if self.members[at].is_due(now) {
            self.members[at].function.handle_timeout(now, out);
            self.distribute(at, out);
        }
    }

    /// Gives what a function has sent to its neighbours.
    fn distribute(&mut self, at: usize, out: &mut Output) {
        for (to, frame) in out.sent().drain(..) {
            let next = match to {
                Port::Left => at.checked_sub(1),
                Port::Right => Some(at + 1).filter(|next| *next < self.members.len()),
            };
            match next {
                Some(next) => self.members[next].arriving[index(to.opposite())].push(frame),
                None => self.leaving.push((to, frame)),
            }
        }
    }

    /// How many functions from the left on have nothing to do any more but to keep their state: the
    /// end of the input has passed them.
    fn finished(&self) -> usize {
        if !self.input_ended {
            return 0;
        }
        let holds = |member: &Member<F>| member.function.held() > 0;
        let first = self.members.iter().position(holds);
        first.unwrap_or(self.members.len())
    }
}

impl<F: Function> Default for Chain<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Function> Function for Chain<F> {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        let first = match from {
            Port::Left => self.members.first_mut(),
            Port::Right => self.members.last_mut(),
        };
        let Some(first) = first else {
            for frame in batch.drain(..) {
                out.send(from.opposite(), frame);
            }
            return;
        };
        core::mem::swap(&mut first.arriving[index(from)], batch);
        core::mem::swap(out.sent(), &mut self.leaving);
        self.settle(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        core::mem::swap(out.sent(), &mut self.leaving);
        // From the right, so that what a function releases finds its neighbour up to date.
        for at in (self.finished()..self.members.len()).rev() {
            self.time_out(at, now, out);
        }
        self.settle(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let members = &self.members[self.finished()..];
        members
            .iter()
            .filter_map(|member| member.function.poll_timeout())
            .min()
    }

    fn heads_suffice(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|member| member.function.heads_suffice())
    }

    fn held(&self) -> usize {
        self.members.iter().map(|m| m.function.held()).sum()
    }

    fn input_ended(&mut self) {
        self.input_ended = true;
        for function in self.functions_mut() {
            function.input_ended();
        }
    }

    /// What only the chain as a whole knows; see [`parts`](Function::parts).
    fn counters(&self) -> Vec<Counter> {
        alloc::vec![Counter {
            name: "turned_too_often_frames",
            value: self.turned_too_often,
        }]
    }

    fn parts(&self) -> Vec<(String, Vec<Counter>)> {
        let members = self.members.iter();
        members
            .map(|member| (member.name.clone(), member.function.counters()))
            .collect()
    }

    fn details(&self) -> Vec<Detail> {
        let members = self.members.iter();
        members
            .flat_map(|member| member.function.details())
            .collect()
    }
}

impl<F: Function> Member<F> {
    fn is_due(&self, now: Instant) -> bool {
        self.function.poll_timeout().is_some_and(|due| due <= now)
    }

    fn has_taken_all(&self) -> bool {
        self.arriving.iter().all(Vec::is_empty)
    }
}

const fn index(port: Port) -> usize {
    match port {
        Port::Left => 0,
        Port::Right => 1,
    }
}
