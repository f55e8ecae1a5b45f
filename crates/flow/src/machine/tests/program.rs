//! Random flows and the world they run in: a machine, a model of what it must say, a trace.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A flow. Few names, so that branches meet.
#[derive(Clone, Debug)]
pub(super) enum Code {
    Await {
        name: u8,
        kind: Kind,
        shielded: bool,
    },
    /// Claims a step, runs something else, and looks at the step only then.
    Early(u8, Box<Code>),
    Set(u8),
    Read(u8),
    Patch(u8),
    /// One after the other, until one fails.
    Seq(Vec<Code>),
    /// At once; all of them end.
    All(Vec<Code>),
    /// At once; the first failure gives the others up.
    Try(Vec<Code>),
    Scope(u8, Box<Code>),
    Process(u8, Box<Code>),
    Catch(Box<Code>, Box<Code>),
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn name(at: u8) -> &'static str {
    NAMES[usize::from(at) % NAMES.len()]
}

pub(super) fn code() -> impl Strategy<Value = Code> {
    let kinds = prop_oneof![3 => Just(Kind::Step), 1 => Just(Kind::Sleep), 1 => Just(Kind::Signal)];
    let leaf = prop_oneof![
        8 => (0..3_u8, kinds, prop::bool::weighted(0.1))
            .prop_map(|(name, kind, shielded)| Code::Await { name, kind, shielded }),
        1 => (0..3_u8).prop_map(Code::Set),
        1 => (0..3_u8).prop_map(Code::Read),
        1 => (0..2_u8).prop_map(Code::Patch),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            3 => vec(inner.clone(), 2..5).prop_map(Code::Seq),
            3 => vec(inner.clone(), 2..5).prop_map(Code::All),
            2 => vec(inner.clone(), 2..4).prop_map(Code::Try),
            1 => (0..3_u8, boxed()).prop_map(|(name, code)| Code::Early(name, code)),
            1 => (0..2_u8, boxed()).prop_map(|(name, code)| Code::Scope(name, code)),
            2 => (0..2_u8, boxed()).prop_map(|(name, code)| Code::Process(name, code)),
            1 => (boxed(), boxed()).prop_map(|(work, instead)| Code::Catch(work, instead)),
        ]
    })
}

impl Code {
    fn parts(&mut self) -> Vec<&mut Code> {
        match self {
            Self::Await { .. } | Self::Set(_) | Self::Read(_) | Self::Patch(_) => Vec::new(),
            Self::Seq(parts) | Self::All(parts) | Self::Try(parts) => parts.iter_mut().collect(),
            Self::Early(_, part) | Self::Scope(_, part) | Self::Process(_, part) => vec![part],
            Self::Catch(work, instead) => vec![work, instead],
        }
    }

    /// Puts something else into one place, counted from the front; false when there are fewer.
    pub(super) fn change(&mut self, at: &mut usize, to: &Code) -> bool {
        if *at == 0 {
            *self = to.clone();
            return true;
        }
        *at -= 1;
        self.parts().into_iter().any(|part| part.change(at, to))
    }
}

/// What the flow's code did and saw, with the completion revealed last at that time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Claimed(Position, Kind),
    Took(Position, Outcome),
    Dropped(Position),
    Set(Position),
    Read(u8, Option<Payload>),
    Patched(Position, bool),
}

/// An outcome that was made up for a position.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) position: Position,
    pub(super) kind: Kind,
    pub(super) ordinal: u64,
}

/// A position that is claimed and whose outcome was not taken.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) id: SlotId,
    pub(super) position: Position,
    pub(super) kind: Kind,
    pub(super) shielded: bool,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) machine: Machine,
    /// Sets another value in every life.
    pub(super) life: usize,
    pub(super) counts: HashMap<(String, String), u32>,
    pub(super) trace: Vec<(u64, Event)>,
    pub(super) open: Vec<Open>,
    pub(super) claimed: HashSet<Position>,
    pub(super) dropped: HashSet<Position>,
    /// Records that the flow's code made itself: when, and their numbers.
    pub(super) by_code: Vec<(u64, u64)>,
    pub(super) issued: Rc<RefCell<HashMap<String, Issued>>>,
}

pub(super) type Shared = Rc<RefCell<World>>;
pub(super) type Failure = Vec<Position>;
pub(super) type Flow = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

impl World {
    fn note(&mut self, event: Event) {
        self.trace.push((self.machine.revealed, event));
    }

    /// Counts for itself what the machine must count alike.
    fn count(&mut self, scope: &str, name: &str) -> Position {
        let nth = self.counts.entry((scope.to_owned(), name.to_owned())).or_insert(0);
        let position = Position::new(scope, name.to_owned(), *nth);
        *nth += 1;
        position
    }

    /// Runs what may journal by itself, and says whether it did.
    fn by_code<R>(&mut self, run: impl FnOnce(&mut Machine) -> R) -> R {
        let (revealed, before) = (self.machine.revealed, self.machine.last());
        let result = run(&mut self.machine);
        if self.machine.last() > before {
            self.by_code.push((revealed, self.machine.last()));
        }
        result
    }

    fn scope(&mut self, outer: &str, name: &str) -> Arc<str> {
        let counted = format!("@scope:{name}");
        let expected = self.count(outer, &counted);
        let position = self.machine.next_position(&outer.into(), counted.into());
        assert_eq!(position, expected);
        let path = Position::new(outer, name.to_owned(), position.occurrence());
        path.to_string().into()
    }
}

/// A claimed position, as the flow's futures hold it.
struct Held {
    world: Shared,
    open: Open,
    polled: bool,
    taken: bool,
}

impl Held {
    fn claim(
        world: &Shared,
        scope: &Arc<str>,
        name: &'static str,
        kind: Kind,
        shielded: bool,
    ) -> Self {
        let mut state = world.borrow_mut();
        let position = state.count(scope, name);
        let id = state.machine.claim(scope, name.into(), kind, shielded);
        assert_eq!(state.machine.position(id), Some(&position));
        state.note(Event::Claimed(position.clone(), kind));
        state.claimed.insert(position.clone());
        let open = Open { id, position, kind, shielded };
        state.open.push(open.clone());
        Self { world: Rc::clone(world), open, polled: false, taken: false }
    }

    async fn outcome(mut self) -> Result<(), Failure> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), Failure>> {
        let mut state = self.world.borrow_mut();
        let Some(outcome) = state.machine.take_revealed(self.open.id, cx.waker()) else {
            self.polled = true;
            return Poll::Pending;
        };
        self.taken = true;
        let position = self.open.position.clone();
        let token = match &outcome {
            Outcome::Ok(payload) => String::from_utf8(payload.stored().to_vec()).unwrap(),
            Outcome::Err(error) => error.message.clone(),
        };
        let issued = state.issued.borrow().get(&token).cloned();
        match issued {
            // Whoever waited for it gets it in its turn, and nobody else gets it.
            Some(issued) => {
                assert_eq!((&issued.position, issued.kind), (&position, self.open.kind));
                let revealed = state.machine.revealed;
                assert!(issued.ordinal <= revealed && (!self.polled || issued.ordinal == revealed));
            }
            None => assert_eq!(outcome, cancelled(CancelReason::Asked), "made up"),
        }
        state.open.retain(|open| open.id != self.open.id);
        let failed = matches!(outcome, Outcome::Err(_));
        state.note(Event::Took(position.clone(), outcome));
        Poll::Ready(if failed { Err(vec![position]) } else { Ok(()) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.world.borrow_mut();
        if !self.taken {
            let position = self.open.position.clone();
            state.dropped.insert(position.clone());
            state.note(Event::Dropped(position));
        }
        state.open.retain(|open| open.id != self.open.id);
        state.machine.abandon(self.open.id);
    }
}

struct Branch(Shared, Arc<str>);

impl Drop for Branch {
    fn drop(&mut self) {
        self.0.borrow_mut().machine.end_branch(&self.1);
    }
}

/// The flow's future.
pub(super) fn flow(world: Shared, scope: Arc<str>, code: Code) -> Flow {
    Box::pin(async move {
        match code {
            Code::Await { name: at, kind, shielded } => {
                Held::claim(&world, &scope, name(at), kind, shielded).outcome().await
            }
            Code::Early(at, code) => {
                let held = Held::claim(&world, &scope, name(at), Kind::Step, false);
                flow(world, scope, *code).await?;
                held.outcome().await
            }
            Code::Set(at) => {
                let mut state = world.borrow_mut();
                let position = state.count(&scope, &format!("@set:{}", name(at)));
                let value = value(&format!("life {}", state.life));
                state.by_code(|machine| machine.set(&scope, name(at).to_owned(), Some(value)));
                state.claimed.insert(position.clone());
                state.note(Event::Set(position));
                Ok(())
            }
            Code::Read(at) => {
                let mut state = world.borrow_mut();
                let value = state.machine.value(name(at)).cloned();
                state.note(Event::Read(at, value));
                Ok(())
            }
            Code::Patch(at) => {
                // Changed code does something more.
                if !patched(&world, &scope, name(at)) {
                    return Ok(());
                }
                Held::claim(&world, &scope, "c", Kind::Now, false).outcome().await
            }
            Code::Seq(parts) => {
                for part in parts {
                    flow(Rc::clone(&world), Arc::clone(&scope), part).await?;
                }
                Ok(())
            }
            Code::All(parts) => together(&world, &scope, parts, false).await,
            Code::Try(parts) => together(&world, &scope, parts, true).await,
            Code::Scope(at, code) => {
                let inner = world.borrow_mut().scope(&scope, name(at));
                flow(world, inner, *code).await
            }
            Code::Process(at, code) => {
                let path = world.borrow_mut().scope(&scope, name(at));
                let born = world.borrow().machine.born(&path);
                world.borrow_mut().machine.begin_branch(Arc::clone(&path), born);
                let _branch = Branch(Rc::clone(&world), Arc::clone(&path));
                flow(world, path, *code).await
            }
            Code::Catch(work, instead) => {
                match flow(Rc::clone(&world), Arc::clone(&scope), *work).await {
                    Ok(()) => Ok(()),
                    Err(_) => flow(world, scope, *instead).await,
                }
            }
        }
    })
}

fn patched(world: &Shared, scope: &Arc<str>, name: &str) -> bool {
    let mut state = world.borrow_mut();
    let position = state.count(scope, &format!("@patch:{name}"));
    let yes = state.by_code(|machine| machine.patched(scope, name));
    state.claimed.insert(position.clone());
    state.note(Event::Patched(position, yes));
    yes
}

async fn together(
    world: &Shared,
    scope: &Arc<str>,
    parts: Vec<Code>,
    first: bool,
) -> Result<(), Failure> {
    let begin = |part| Some(flow(Rc::clone(world), Arc::clone(scope), part));
    let mut running: Vec<Option<Flow>> = parts.into_iter().map(begin).collect();
    let mut failed = Vec::new();
    poll_fn(|cx| {
        for place in &mut running {
            let Some(part) = place else { continue };
            let Poll::Ready(result) = part.as_mut().poll(cx) else { continue };
            *place = None;
            if let Err(positions) = result {
                failed.extend(positions);
                if first {
                    return Poll::Ready(());
                }
            }
        }
        if running.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}
