//! The subscription table: a tree of filter levels. Matching a topic visits only the branches that can match, so its cost
//! follows the depth of the topic and not the number of subscribers.

use std::collections::HashMap;
use std::hash::Hash;

struct Node<K, V> {
    children: HashMap<Box<str>, Node<K, V>>,
    here: Vec<(K, V)>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self { children: HashMap::new(), here: Vec::new() }
    }
}

/// Values by filter and key.
pub struct Tree<K, V> {
    root: Node<K, V>,
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<K: Eq + Hash, V> Tree<K, V> {
    /// Puts a value, and returns the one that stood there.
    pub fn insert(&mut self, filter: &str, key: K, value: V) -> Option<V> {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        match node.here.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => Some(std::mem::replace(&mut entry.1, value)),
            None => {
                node.here.push((key, value));
                None
            }
        }
    }

    pub fn get_mut(&mut self, filter: &str, key: &K) -> Option<&mut V> {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = node.children.get_mut(level)?;
        }
        node.here.iter_mut().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Takes a value away and prunes branches that became empty.
    pub fn remove(&mut self, filter: &str, key: &K) -> Option<V> {
        Self::remove_in(&mut self.root, filter, key)
    }

    fn remove_in(node: &mut Node<K, V>, filter: &str, key: &K) -> Option<V> {
        let (level, rest) = filter.split_once('/').map_or((filter, None), |(level, rest)| (level, Some(rest)));
        let child = node.children.get_mut(level)?;
        let removed = match rest {
            Some(rest) => Self::remove_in(child, rest, key),
            None => child.here.iter().position(|(known, _)| known == key).map(|at| child.here.swap_remove(at).1),
        };
        if child.here.is_empty() && child.children.is_empty() {
            node.children.remove(level);
        }
        removed
    }

    /// Shows every value whose filter matches the topic.
    pub fn for_matches(&mut self, topic: &str, mut visit: impl FnMut(&K, &mut V)) {
        let hidden = topic.starts_with('$');
        Self::visit(&mut self.root, Some(topic), hidden, &mut visit);
    }

    fn visit(node: &mut Node<K, V>, rest: Option<&str>, hidden: bool, visit: &mut impl FnMut(&K, &mut V)) {
        if !hidden {
            if let Some(all) = node.children.get_mut("#") {
                all.here.iter_mut().for_each(|(key, value)| visit(key, value));
            }
        }
        let Some(topic) = rest else {
            node.here.iter_mut().for_each(|(key, value)| visit(key, value));
            return;
        };
        let (level, rest) = topic.split_once('/').map_or((topic, None), |(level, rest)| (level, Some(rest)));
        if let Some(child) = node.children.get_mut(level) {
            Self::visit(child, rest, false, visit);
        }
        if !hidden {
            if let Some(child) = node.children.get_mut("+") {
                Self::visit(child, rest, false, visit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::topic;
    use super::*;

    proptest! {
        #[test]
        fn same_as_matching_each_filter(
            filters in proptest::collection::vec("(\\$|a|b|\\+)?(/(a|b|\\+)?){0,3}(/#)?", 0..20),
            removed in proptest::collection::vec(any::<bool>(), 20),
            topic in "(\\$|a|b)?(/(a|b)?){0,3}",
        ) {
            let mut tree = Tree::default();
            let mut kept = BTreeSet::new();
            for (i, filter) in filters.iter().enumerate().filter(|(_, f)| topic::is_filter(f)) {
                tree.insert(filter, i, filter.clone());
                kept.insert((i, filter.clone()));
            }
            for (i, filter) in filters.iter().enumerate().filter(|(i, _)| removed[*i]) {
                prop_assert_eq!(tree.remove(filter, &i).is_some(), kept.remove(&(i, filter.clone())));
            }
            if topic::is_name(&topic) {
                let mut found = BTreeSet::new();
                tree.for_matches(&topic, |key, value| { found.insert((*key, value.clone())); });
                kept.retain(|(_, filter)| topic::matches(&topic, filter));
                prop_assert_eq!(found, kept);
            }
            for (i, filter) in filters.iter().enumerate() {
                tree.remove(filter, &i);
            }
            prop_assert!(tree.root.children.is_empty());
        }
    }
}
