//! Objects of one kind, kept as the API server has them.

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::cluster::{Name, Named};

/// What counts of the objects of a kind.
#[derive(Debug)]
pub struct Kept<T> {
    objects: Named<T>,
    /// A new list that is not complete yet; the old one counts until it is.
    arriving: Named<T>,
    is_whole: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { objects: Named::new(), arriving: Named::new(), is_whole: false }
    }
}

impl<T: PartialEq> Kept<T> {
    /// Takes an event; true if anything that counts is different now.
    pub fn take(&mut self, event: Event<(Name, T)>) -> bool {
        match event {
            Event::Apply((name, new)) => {
                let is_same = self.objects.get(&name) == Some(&new);
                self.objects.insert(name, new);
                !is_same
            }
            Event::Delete((name, _)) => self.objects.remove(&name).is_some(),
            Event::Init => {
                self.arriving.clear();
                false
            }
            Event::InitApply((name, new)) => {
                self.arriving.insert(name, new);
                false
            }
            Event::InitDone => {
                let arrived = std::mem::take(&mut self.arriving);
                let is_different = !self.is_whole || arrived != self.objects;
                self.objects = arrived;
                self.is_whole = true;
                is_different
            }
        }
    }

    /// Whether a whole list has been seen.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The objects.
    pub fn objects(&self) -> &Named<T> {
        &self.objects
    }
}

/// The same event with what counts of its object.
pub fn reduced<K: ResourceExt, T>(event: Event<K>, read: impl Fn(&K) -> T) -> Event<(Name, T)> {
    let reduce = |object: K| {
        let name = Name { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        (name, read(&object))
    };
    match event {
        Event::Apply(object) => Event::Apply(reduce(object)),
        Event::Delete(object) => Event::Delete(reduce(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(reduce(object)),
        Event::InitDone => Event::InitDone,
    }
}
