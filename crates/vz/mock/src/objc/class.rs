//! Classes, selectors, and the calls that make new ones.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_char},
    ptr,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{message::Imp, object::HEADER, table};
use crate::journal;

/// How an argument or an answer is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nothing,
    Flag,
    Short,
    Word,
    Float,
    Version,
    Constant(&'static str),
    Object,
    Block,
    Pointer,
    /// Yes, or no and an error in the last argument.
    Verdict,
    /// An object, or none and an error in the last argument.
    Fallible,
}

/// A method that the framework declares.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) selector: &'static str,
    pub(crate) arguments: &'static [Kind],
    pub(crate) answer: Kind,
}

/// A class, or the class of a class.
#[repr(C)]
pub(crate) struct Class {
    /// First, as in objects: the class of this class; none for those themselves.
    meta: Option<&'static Class>,
    parent: Option<&'static Class>,
    name: &'static CStr,
    methods: &'static [Method],
    own: Mutex<Vec<(Sel, Imp)>>,
    fields: Mutex<Vec<&'static Field>>,
    size: AtomicUsize,
}

/// A field of a class that the program defined.
pub(crate) struct Field {
    name: CString,
    offset: usize,
}

/// A selector: a pointer to its name, which there is once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct Sel(*const CString);

// SAFETY: what it points to is never changed or freed.
unsafe impl Send for Sel {}
// SAFETY: as above.
unsafe impl Sync for Sel {}

impl Sel {
    pub(crate) fn new(name: &CStr) -> Self {
        static KNOWN: LazyLock<Mutex<HashMap<CString, Sel>>> = LazyLock::new(Mutex::default);
        let mut known = lock(&KNOWN);
        *known.entry(name.to_owned()).or_insert_with(|| Self(Box::leak(Box::new(name.to_owned()))))
    }

    pub(crate) fn name(self) -> &'static str {
        // SAFETY: a `Sel` comes from `new` only.
        unsafe { &*self.0 }.to_str().unwrap_or_default()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Class {
    pub(crate) const fn framework(
        meta: Option<&'static Self>,
        parent: Option<&'static Self>,
        name: &'static CStr,
        methods: &'static [Method],
    ) -> Self {
        Self {
            meta,
            parent,
            name,
            methods,
            own: Mutex::new(Vec::new()),
            fields: Mutex::new(Vec::new()),
            size: AtomicUsize::new(HEADER),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name.to_str().unwrap_or_default()
    }

    pub(crate) fn is_meta(&self) -> bool {
        self.meta.is_none()
    }

    /// The class and those above it.
    pub(crate) fn chain(&'static self) -> impl Iterator<Item = &'static Self> {
        std::iter::successors(Some(self), |class| class.parent)
    }

    /// What the framework declares about a message.
    pub(crate) fn declared(&'static self, selector: &str) -> Option<&'static Method> {
        self.chain().find_map(|class| class.methods.iter().find(|m| m.selector == selector))
    }

    /// What the program defined for a message.
    pub(crate) fn own(&'static self, selector: Sel) -> Option<Imp> {
        self.chain().find_map(|class| {
            lock(&class.own).iter().find(|(known, _)| *known == selector).map(|(_, imp)| *imp)
        })
    }

    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }
}

fn defined() -> MutexGuard<'static, Vec<&'static Class>> {
    static DEFINED: Mutex<Vec<&'static Class>> = Mutex::new(Vec::new());
    lock(&DEFINED)
}

/// The class of that name, unless a test says that this macOS has none.
pub(crate) fn find(name: &str) -> Option<&'static Class> {
    if journal::is_hidden(name) {
        return None;
    }
    let known = table::CLASSES.iter().find(|class| class.name() == name).copied();
    known.or_else(|| defined().iter().find(|class| class.name() == name).copied())
}

// SAFETY, for all that follows: objc2 calls these as libobjc2 documents them.

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sel_registerName(name: *const c_char) -> Sel {
    Sel::new(unsafe { CStr::from_ptr(name) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sel_getName(sel: Sel) -> *const c_char {
    unsafe { &*sel.0 }.as_ptr()
}

#[unsafe(no_mangle)]
extern "C-unwind" fn sel_isEqual(a: Sel, b: Sel) -> bool {
    a == b
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_getClass(name: *const c_char) -> *const Class {
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
    find(name).map_or(ptr::null(), ptr::from_ref)
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn object_getClass(object: *const Option<&'static Class>) -> *const Class {
    if object.is_null() { ptr::null() } else { unsafe { *object }.map_or(ptr::null(), ptr::from_ref) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getName(class: &'static Class) -> *const c_char {
    class.name.as_ptr()
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_getSuperclass(class: &'static Class) -> *const Class {
    class.parent.map_or(ptr::null(), ptr::from_ref)
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_isMetaClass(class: &'static Class) -> bool {
    class.is_meta()
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_getInstanceSize(class: &'static Class) -> usize {
    class.size()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_allocateClassPair(
    parent: &'static Class,
    name: *const c_char,
    _extra: usize,
) -> *const Class {
    let name: &'static CStr = Box::leak(unsafe { CStr::from_ptr(name) }.to_owned().into_boxed_c_str());
    let leak = |class| -> &'static Class { Box::leak(Box::new(class)) };
    let meta = leak(Class::framework(None, parent.meta, name, &[]));
    let class = leak(Class::framework(Some(meta), Some(parent), name, &[]));
    class.size.store(parent.size(), Ordering::Relaxed);
    class
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_registerClassPair(class: &'static Class) {
    defined().push(class);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_addMethod(
    class: &'static Class,
    sel: Sel,
    imp: Imp,
    _types: *const c_char,
) -> bool {
    lock(&class.own).push((sel, imp));
    true
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_addIvar(
    class: &'static Class,
    name: *const c_char,
    size: usize,
    alignment: u8,
    _types: *const c_char,
) -> bool {
    let offset = class.size().next_multiple_of(1 << alignment);
    class.size.store(offset + size, Ordering::Relaxed);
    let name = unsafe { CStr::from_ptr(name) }.to_owned();
    lock(&class.fields).push(Box::leak(Box::new(Field { name, offset })));
    true
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getInstanceVariable(
    class: &'static Class,
    name: *const c_char,
) -> *const Field {
    let name = unsafe { CStr::from_ptr(name) };
    let found = lock(&class.fields).iter().find(|field| field.name.as_c_str() == name).copied();
    found.map_or(ptr::null(), ptr::from_ref)
}

#[unsafe(no_mangle)]
extern "C-unwind" fn ivar_getOffset(field: &'static Field) -> isize {
    field.offset.cast_signed()
}

/// The made-up runtime has no protocols; objc2 does without.
#[unsafe(no_mangle)]
extern "C-unwind" fn objc_getProtocol(_name: *const c_char) -> *const Class {
    ptr::null()
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_addProtocol(_class: &'static Class, _protocol: *const Class) -> bool {
    true
}

/// objc2 would take back a class that it could not finish.
#[unsafe(no_mangle)]
extern "C-unwind" fn objc_disposeClassPair(class: &'static Class) {
    journal::wrong(format!("the class {} was not finished", class.name()));
}
