//! Objects: what they hold, and how they are counted. What is gone stays in memory, so that its use is noticed and does no harm.

use std::{
    alloc::{Layout, alloc_zeroed},
    cell::{Cell, RefCell},
    ffi::{CString, c_void},
    os::fd::OwnedFd,
    ptr,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicIsize, Ordering},
    },
};

use super::{
    class::{Class, Sel, lock},
    message,
};
use crate::{journal, virtualization::Live};

/// An object; fields of classes that the program defined follow.
#[repr(C)]
pub(crate) struct Object {
    class: &'static Class,
    count: AtomicIsize,
    body: Mutex<Body>,
}

/// Where fields begin.
pub(crate) const HEADER: usize = size_of::<Object>();

#[derive(Default)]
pub(crate) struct Body {
    pub(crate) data: Data,
    /// In the order in which they were set.
    pub(crate) properties: Vec<(String, Property)>,
}

#[derive(Default)]
pub(crate) enum Data {
    #[default]
    None,
    Text(CString),
    Bytes(Vec<u8>),
    List(Vec<Ref>),
    Pairs(Vec<(Ref, Ref)>),
    File(OwnedFd),
    Error {
        domain: &'static str,
        code: isize,
        text: String,
    },
    Live(Live),
}

/// What a property was set to.
#[derive(Clone)]
pub(crate) enum Property {
    Flag(bool),
    Number(u64),
    Constant(&'static str),
    Object(Option<Ref>),
}

/// A reference that counts.
pub(crate) struct Ref(*const Object);

// SAFETY: objects are counted atomically, and their bodies have a lock.
unsafe impl Send for Ref {}
// SAFETY: as above.
unsafe impl Sync for Ref {}

impl Ref {
    /// One more reference to what `object` points to.
    pub(crate) fn to(object: *const Object) -> Option<Self> {
        (!object.is_null()).then(|| {
            retain(object);
            Self(object)
        })
    }

    /// A new object with that.
    pub(crate) fn new(class: &'static Class, data: Data) -> Self {
        let object = Self(allocate(class));
        object.body().data = data;
        object
    }

    pub(crate) fn pointer(&self) -> *const Object {
        self.0
    }

    /// Gives the reference away.
    pub(crate) fn leak(self) -> *const Object {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Clone for Ref {
    fn clone(&self) -> Self {
        retain(self.0);
        Self(self.0)
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        release(self.0);
    }
}

impl std::ops::Deref for Ref {
    type Target = Object;

    fn deref(&self) -> &Object {
        // SAFETY: objects stay in memory.
        unsafe { &*self.0 }
    }
}

impl Object {
    /// What `pointer`, which the program or this crate has from here, points to.
    pub(crate) fn at(pointer: *const Self) -> Option<&'static Self> {
        // SAFETY: it was allocated here, and objects stay in memory.
        unsafe { pointer.as_ref() }
    }

    pub(crate) fn class(&self) -> &'static Class {
        self.class
    }

    pub(crate) fn body(&self) -> MutexGuard<'_, Body> {
        lock(&self.body)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.count.load(Ordering::SeqCst) <= 0
    }

    /// The text of a string or the like.
    pub(crate) fn text(&self) -> Option<String> {
        match &self.body().data {
            Data::Text(text) => text.to_str().ok().map(str::to_owned),
            _ => None,
        }
    }

    pub(crate) fn property(&self, name: &str) -> Option<Property> {
        self.body().properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn set(&self, name: &str, value: Property) {
        let old = {
            let mut body = self.body();
            let old = body.properties.iter().position(|(known, _)| known == name);
            let old = old.map(|at| body.properties.remove(at));
            body.properties.push((name.into(), value));
            old
        };
        // Its end may come here again, so without the lock.
        drop(old);
    }
}

/// An object with a count of one.
pub(crate) fn allocate(class: &'static Class) -> *const Object {
    let layout = Layout::from_size_align(class.size().max(HEADER), 16);
    let Ok(layout) = layout else { unreachable!("classes are small") };
    journal::born(class.name());
    // SAFETY: the layout is not empty; what follows the header are fields, which begin as zeros.
    unsafe {
        let object = alloc_zeroed(layout).cast::<Object>();
        object.write(Object { class, count: AtomicIsize::new(1), body: Mutex::default() });
        object
    }
}

/// Classes count as objects that stay for ever.
fn is_class(object: *const Object) -> bool {
    // SAFETY: objects and classes begin with their class; a class's class is a metaclass or none.
    unsafe { *object.cast::<Option<&'static Class>>() }.is_none_or(Class::is_meta)
}

pub(crate) fn retain(object: *const Object) {
    if object.is_null() || is_class(object) {
        return;
    }
    let Some(object) = Object::at(object) else { return };
    if object.count.fetch_add(1, Ordering::SeqCst) <= 0 {
        object.count.fetch_sub(1, Ordering::SeqCst);
        journal::wrong(format!("a {} that is gone was retained", object.class.name()));
    }
}

pub(crate) fn release(pointer: *const Object) {
    if pointer.is_null() || is_class(pointer) {
        return;
    }
    let Some(object) = Object::at(pointer) else { return };
    match object.count.fetch_sub(1, Ordering::SeqCst) {
        1 => {
            // Its own `dealloc` sees it alive.
            object.count.store(1, Ordering::SeqCst);
            message::send(pointer, Sel::new(c"dealloc"));
            object.count.store(0, Ordering::SeqCst);
            journal::died(object.class.name());
        }
        ..=0 => {
            object.count.store(0, Ordering::SeqCst);
            journal::wrong(format!("a {} was released too often", object.class.name()));
        }
        _ => {}
    }
}

/// What `NSObject`'s `dealloc` does.
pub(crate) fn dealloc(object: &Object) {
    let body = std::mem::take(&mut *object.body());
    drop(body);
}

thread_local! {
    static POOLS: RefCell<Vec<Vec<Ref>>> = const { RefCell::new(Vec::new()) };
    static LOOSE: RefCell<Vec<Ref>> = const { RefCell::new(Vec::new()) };
    /// What was just returned: its caller may take it over, and the pool never sees it.
    static HANDED: Cell<Option<Ref>> = const { Cell::new(None) };
}

/// Returns an object to a caller who need not take it over.
pub(crate) fn hand(object: Option<Ref>) -> *const Object {
    settle();
    let pointer = object.as_ref().map_or(ptr::null(), Ref::pointer);
    HANDED.set(object);
    pointer
}

/// What was returned and not taken over is released with the pool.
pub(crate) fn settle() {
    let Some(object) = HANDED.take() else { return };
    let class = object.class.name();
    let kept = POOLS.with_borrow_mut(|pools| match pools.last_mut() {
        Some(pool) => {
            pool.push(object);
            true
        }
        None => {
            // It stays until the thread ends.
            LOOSE.with_borrow_mut(|loose| loose.push(object));
            false
        }
    });
    if !kept {
        journal::wrong(format!("a {class} was returned where there is no autorelease pool"));
    }
}

/// Gives a reference to the pool.
pub(crate) fn autorelease(object: *const Object) {
    settle();
    if !object.is_null() {
        HANDED.set(Some(Ref(object)));
        settle();
    }
}

// SAFETY, for all that follows: objc2 calls these as libobjc2 documents them.

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_retain(object: *const Object) -> *const Object {
    retain(object);
    object
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_release(object: *const Object) {
    release(object);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_retainAutoreleasedReturnValue(object: *const Object) -> *const Object {
    match HANDED.take() {
        Some(handed) if handed.pointer() == object => drop(handed.leak()),
        other => {
            HANDED.set(other);
            settle();
            retain(object);
        }
    }
    object
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_autorelease(object: *const Object) -> *const Object {
    autorelease(object);
    object
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_autoreleaseReturnValue(object: *const Object) -> *const Object {
    settle();
    HANDED.set((!object.is_null()).then_some(Ref(object)));
    object
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_autoreleasePoolPush() -> *mut c_void {
    settle();
    POOLS.with_borrow_mut(|pools| {
        pools.push(Vec::new());
        ptr::without_provenance_mut(pools.len())
    })
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_autoreleasePoolPop(pool: *mut c_void) {
    settle();
    while let Some(pool) =
        POOLS.with_borrow_mut(|pools| if pools.len() >= pool.addr() { pools.pop() } else { None })
    {
        drop(pool);
    }
}
