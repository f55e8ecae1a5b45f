//! The operations of a batch. Most batches have one, which needs no memory of its own.

use super::Op;

/// A list that holds its first element in place.
#[derive(Clone, Debug, Default)]
pub(super) enum Ops {
    #[default]
    None,
    One(Op),
    Many(Vec<Op>),
}

impl Ops {
    pub(super) fn as_slice(&self) -> &[Op] {
        match self {
            Self::None => &[],
            Self::One(op) => std::slice::from_ref(op),
            Self::Many(ops) => ops,
        }
    }

    pub(super) fn push(&mut self, op: Op) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(op),
            Self::One(first) => Self::Many(vec![first, op]),
            Self::Many(mut ops) => {
                ops.push(op);
                Self::Many(ops)
            }
        };
    }

    /// Adds all of `other`, after what is here.
    pub(super) fn append(&mut self, other: Self) {
        *self = match (std::mem::take(self), other) {
            (Self::None, ops) | (ops, Self::None) => ops,
            (Self::One(first), Self::One(second)) => Self::Many(vec![first, second]),
            (Self::One(first), Self::Many(mut ops)) => {
                ops.insert(0, first);
                Self::Many(ops)
            }
            (Self::Many(mut ops), Self::One(last)) => {
                ops.push(last);
                Self::Many(ops)
            }
            (Self::Many(mut ops), Self::Many(more)) => {
                ops.extend(more);
                Self::Many(ops)
            }
        };
    }
}

impl PartialEq for Ops {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Ops {}

#[cfg(test)]
mod tests {
    use super::Ops;
    use crate::{Namespace, Op};

    #[test]
    fn any_lists_joined_are_in_order() {
        let ns = Namespace::new("n").unwrap();
        let op = |n: usize| Op::Delete { key: ns.key([u8::try_from(n).unwrap()]).unwrap() };
        for front in 0..5 {
            for back in 0..5 {
                let mut joined = Ops::default();
                let mut other = Ops::default();
                (0..front).for_each(|n| joined.push(op(n)));
                (front..front + back).for_each(|n| other.push(op(n)));
                joined.append(other);
                joined.push(op(front + back));
                let expected: Vec<Op> = (0..=front + back).map(op).collect();
                assert_eq!(joined.as_slice(), expected, "{front} and {back}");
            }
        }
    }
}
