//! Messages: which function answers.

use std::{ffi::c_void, mem::transmute, ptr};

use super::{
    class::{Class, Kind, Sel},
    object::{self, Object, Ref},
    queue,
};
use crate::{foundation, journal, virtualization};

/// A function that answers messages; its type is that of the message.
pub(crate) type Imp = unsafe extern "C-unwind" fn();

/// How many arguments a message of the framework has at most.
const ARGUMENTS: usize = 6;

/// A message to a class or an object of the framework.
pub(crate) struct Message {
    pub(crate) receiver: *const Object,
    /// Where the search for an answer begins; the metaclass, of a message to a class.
    pub(crate) class: &'static Class,
    pub(crate) selector: &'static str,
    words: [usize; ARGUMENTS],
    floats: [f64; 2],
}

/// What is answered.
pub(crate) enum Answer {
    Word(usize),
    Float(f64),
    Version([isize; 3]),
    /// A reference that the caller has then.
    Owned(*const Object),
    /// A reference that the caller may take over.
    Object(Option<Ref>),
}

impl Answer {
    pub(crate) fn nothing() -> Self {
        Self::Word(0)
    }

    pub(crate) fn flag(flag: bool) -> Self {
        Self::Word(flag.into())
    }
}

impl Message {
    pub(crate) fn word(&self, at: usize) -> usize {
        self.words.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn float(&self) -> f64 {
        self.floats[0]
    }

    pub(crate) fn object(&self, at: usize) -> Option<Ref> {
        Ref::to(ptr::with_exposed_provenance(self.word(at)))
    }

    pub(crate) fn text(&self, at: usize) -> String {
        self.object(at).and_then(|object| object.text()).unwrap_or_default()
    }

    pub(crate) fn pointer<T>(&self, at: usize) -> *mut T {
        ptr::with_exposed_provenance_mut(self.word(at))
    }

    pub(crate) fn this(&self) -> Option<Ref> {
        Ref::to(self.receiver)
    }

    pub(crate) fn to_class(&self) -> bool {
        self.class.is_meta()
    }
}

fn answer(
    receiver: *const Object,
    class: &'static Class,
    sel: Sel,
    words: [usize; ARGUMENTS],
    floats: [f64; 2],
) -> Answer {
    object::settle();
    let message = Message { receiver, class, selector: sel.name(), words, floats };
    if !class.is_meta() && Object::at(receiver).is_some_and(Object::is_gone) {
        journal::wrong(format!("{} was sent to a {} that is gone", message.selector, class.name()));
        return Answer::nothing();
    }
    let found = virtualization::answer(&message).or_else(|| foundation::answer(&message));
    found.or_else(|| virtualization::record(&message)).unwrap_or_else(|| {
        let sign = if class.is_meta() { '+' } else { '-' };
        journal::wrong(format!("nobody answers {sign}[{} {}]", class.name(), message.selector));
        Answer::nothing()
    })
}

/// The class whose methods the receiver has.
fn class_of(receiver: *const Object) -> &'static Class {
    // SAFETY: objects and classes begin with their class; messages go to neither nil nor metaclasses.
    match unsafe { *receiver.cast::<Option<&'static Class>>() } {
        Some(class) => class,
        None => unreachable!("messages to metaclasses are not sent"),
    }
}

/// Sends a message without arguments and without an answer.
pub(crate) fn send(receiver: *const Object, sel: Sel) {
    // SAFETY: it is one of those that take a receiver and a selector.
    unsafe {
        let imp: unsafe extern "C-unwind" fn(*const Object, Sel) = transmute(objc_msg_lookup(receiver, sel));
        imp(receiver, sel);
    }
}

/// Sends a message with one or two objects to an object that the program defined, if it has the method.
pub(crate) fn tell(receiver: &Ref, sel: Sel, objects: &[*const Object]) -> bool {
    let Some(imp) = receiver.class().own(sel) else { return false };
    let at = |i: usize| objects.get(i).copied().unwrap_or(ptr::null());
    // SAFETY: the method takes that many objects, and those that it does not take do no harm in registers.
    unsafe {
        let imp: unsafe extern "C-unwind" fn(
            *const Object,
            Sel,
            *const Object,
            *const Object,
            *const Object,
        ) = transmute(imp);
        imp(receiver.pointer(), sel, at(0), at(1), at(2));
    }
    true
}

// How the functions below get along with callers that pass fewer arguments: words and floats travel in registers of their own, and
// from the fifth on words are read from the caller's stack. What was not passed is read as whatever is there, and not used.

type Words<R> =
    unsafe extern "C-unwind" fn(*const Object, Sel, usize, usize, usize, usize, usize, usize, f64, f64) -> R;

macro_rules! answering {
    ($name:ident, $class:expr, $answer:ty, $convert:expr) => {
        #[allow(clippy::too_many_arguments, reason = "as many as a message has")]
        unsafe extern "C-unwind" fn $name(
            this: *const Object,
            sel: Sel,
            a: usize,
            b: usize,
            c: usize,
            d: usize,
            e: usize,
            f: usize,
            x: f64,
            y: f64,
        ) -> $answer {
            let class: &'static Class = $class(this);
            $convert(answer(this, class, sel, [a, b, c, d, e, f], [x, y]))
        }
    };
}

answering!(with_word, class_of, usize, word);
answering!(with_float, class_of, f64, |answer| if let Answer::Float(x) = answer { x } else { 0.0 });
answering!(with_version, class_of, Version, |answer| Version(if let Answer::Version(v) = answer {
    v
} else {
    [0; 3]
}));
// For messages to `super`: those are of NSObject.
answering!(to_super, root, usize, word);

fn root(_: *const Object) -> &'static Class {
    &super::table::CLASS_NSObject
}

#[repr(C)]
struct Version([isize; 3]);

fn word(answer: Answer) -> usize {
    match answer {
        Answer::Word(word) => word,
        Answer::Owned(object) => object.expose_provenance(),
        Answer::Object(object) => object::hand(object).expose_provenance(),
        Answer::Float(_) | Answer::Version(_) => 0,
    }
}

fn erased<R>(imp: Words<R>) -> Imp {
    // SAFETY: whoever calls it gives it the message's type back.
    unsafe { transmute::<Words<R>, Imp>(imp) }
}

// SAFETY: objc2 calls these as libobjc2 documents them.

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_msg_lookup(receiver: *const Object, sel: Sel) -> Imp {
    let class = class_of(receiver);
    if let Some(imp) = class.own(sel) {
        return imp;
    }
    let kind = class.declared(sel.name()).map(|m| m.answer).or_else(|| foundation::kind(sel.name()));
    match kind {
        Some(Kind::Float) => erased(with_float),
        Some(Kind::Version) => erased(with_version),
        _ => erased(with_word),
    }
}

#[repr(C)]
struct Super {
    receiver: *const Object,
    class: &'static Class,
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_msg_lookup_super(to: *const Super, sel: Sel) -> Imp {
    // SAFETY: as above.
    let class = unsafe { &*to }.class;
    class.own(sel).unwrap_or_else(|| erased(to_super))
}

/// A queue that is given as an argument.
pub(crate) fn queue_argument(message: &Message, at: usize) -> Option<queue::Handle> {
    queue::Handle::to(message.pointer::<c_void>(at).cast())
}
