//! Things with small numbers, which the poll knows them by.

/// Holds things at numbers that are used again.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The number that the next insertion gives.
    pub(super) fn next_index(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        let index = self.next_index();
        self.free.pop();
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(value),
            None => self.slots.push(Some(value)),
        }
        index
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index)?.as_mut()
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let value = self.slots.get_mut(index)?.take()?;
        self.free.push(index);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> + Clone {
        self.slots.iter().enumerate().filter_map(|(i, slot)| Some((i, slot.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(i, slot)| Some((i, slot.as_mut()?)))
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again() {
        let mut table = Table::default();
        assert_eq!((table.insert('a'), table.insert('b')), (0, 1));
        assert_eq!(table.remove(0), Some('a'));
        assert_eq!((table.remove(0), table.len(), table.next_index()), (None, 1, 0));
        assert_eq!((table.insert('c'), table.insert('d')), (0, 2));
        assert_eq!(table.iter().map(|(i, c)| (i, *c)).collect::<Vec<_>>(), [(0, 'c'), (1, 'b'), (2, 'd')]);
        table.clear();
        assert_eq!((table.len(), table.next_index()), (0, 0));
    }
}
