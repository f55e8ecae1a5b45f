//! An index that opens well and fails in use.

use resurge_store::ErrorKind;
use resurge_testkit::{DiskLoss, IndexFate};

use crate::crash::step;
use crate::life::{Kind, Life, Step, Stop};

/// A store that was closed in good order, with an index of this fate.
fn closed(fate: IndexFate) -> Result<Life, String> {
    let mut life = Life::new(Kind::Indexed, None);
    for now in [Step::Open, Step::Durable(&[10, 700]), Step::Image, Step::Close] {
        step(&mut life, now, "on a sound disk")?;
    }
    let mut next = life.after(life.disk.kill(), life.index.crash(fate));
    next.index_fails = true;
    Ok(next)
}

/// `apply` fails or panics: nothing is lost, and the next open, with whatever index, has it all.
pub(crate) fn in_use(fate: IndexFate) -> Result<(), String> {
    let mut life = closed(fate)?;
    step(&mut life, Step::Open, "nothing to apply yet")?;
    step(&mut life, Step::Durable(&[300]), "the overlay takes it")?;
    // Cutting the log needs the index; from its failure on the store only refuses.
    match life.step(Step::Image) {
        Ok(()) => step(&mut life, Step::Close, "an index that failed does not keep it open")?,
        Err(Stop::Error(_)) => match life.step(Step::Durable(&[1])) {
            Err(Stop::Error(e)) if e.kind() == ErrorKind::Closed => {}
            other => return Err(format!("goes on with {other:?}")),
        },
        Err(Stop::Bug(bug)) => return Err(bug),
    }
    step(&mut life, Step::Drop, "dropped")?;
    for fate in [IndexFate::Intact, IndexFate::Gone] {
        let mut next = life.after(life.disk.power_cut(DiskLoss::All), life.index.crash(fate));
        next.model.power_cut();
        next.torn = true;
        step(&mut next, Step::Open, "after the failure")?;
    }
    Ok(())
}

/// The disk under the index fails: a typed error, no damage, and all is there once it works again.
pub(crate) fn stuck() -> Result<(), String> {
    let mut life = closed(IndexFate::Stuck)?;
    match life.step(Step::Open) {
        Err(Stop::Error(e)) if e.kind() == ErrorKind::Unavailable => {}
        other => return Err(format!("opened with {other:?}")),
    }
    let mut next = life.after(life.disk.kill(), life.index.crash(IndexFate::Intact));
    step(&mut next, Step::Open, "the disk works again")
}
