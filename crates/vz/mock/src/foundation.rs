//! As much of Foundation as the program calls.

use std::{
    ffi::{CString, c_void},
    os::fd::{FromRawFd as _, OwnedFd},
    ptr,
};

use crate::{
    journal,
    objc::{
        class::{Class, Kind, Sel},
        message::{Answer, Message},
        object::{self, Data, Object, Ref},
        table,
    },
};

/// How a message of Foundation is answered, where that is not a word.
pub(crate) fn kind(selector: &str) -> Option<Kind> {
    match selector {
        "fractionCompleted" => Some(Kind::Float),
        "operatingSystemVersion" => Some(Kind::Version),
        _ => None,
    }
}

pub(crate) fn string(text: impl Into<Vec<u8>>) -> Ref {
    Ref::new(&table::CLASS_NSString, Data::Text(CString::new(text).unwrap_or_default()))
}

pub(crate) fn data(bytes: &[u8]) -> Ref {
    Ref::new(&table::CLASS_NSData, Data::Bytes(bytes.into()))
}

pub(crate) fn array(objects: Vec<Ref>) -> Ref {
    Ref::new(&table::CLASS_NSArray, Data::List(objects))
}

pub(crate) fn error((domain, code, text): journal::Fault) -> Ref {
    Ref::new(&table::CLASS_NSError, Data::Error { domain, code, text: text.into() })
}

pub(crate) fn answer(message: &Message) -> Option<Answer> {
    // From NSObject's own up: what a class says goes before what its parents say.
    message.class.chain().find_map(|class| match class.name() {
        "NSString" => of_string(message),
        "NSData" => of_data(message),
        "NSArray" => of_array(message),
        "NSDictionary" => of_dictionary(message),
        "NSURL" => of_url(message),
        "NSFileHandle" => of_file(message),
        "NSError" => of_error(message),
        "NSProgress" if message.selector == "fractionCompleted" => {
            Some(Answer::Float(crate::virtualization::fraction()))
        }
        "NSProcessInfo" => match message.selector {
            "processInfo" => Some(Answer::Object(Some(Ref::new(&table::CLASS_NSProcessInfo, Data::None)))),
            "operatingSystemVersion" => Some(Answer::Version([26, 1, 0])),
            _ => None,
        },
        "NSObject" => of_object(message),
        _ => None,
    })
}

/// Gives a new object what it holds.
fn filled(message: &Message, data: Data) -> Option<Answer> {
    Object::at(message.receiver)?.body().data = data;
    Some(Answer::Owned(message.receiver))
}

/// What `count` words at `pointer` are.
fn copied<T: Copy>(pointer: *const T, count: usize) -> Vec<T> {
    if count == 0 {
        return Vec::new();
    }
    // SAFETY: the program passes a pointer to that many.
    unsafe { std::slice::from_raw_parts(pointer, count) }.to_vec()
}

fn of_object(message: &Message) -> Option<Answer> {
    let class_answer = |class: &'static Class| Answer::Word(ptr::from_ref(class).expose_provenance());
    if message.to_class() {
        // SAFETY: the receiver of a message to a class is a class.
        let class: &'static Class = unsafe { &*message.receiver.cast() };
        return match message.selector {
            "alloc" | "new" => Some(Answer::Owned(object::allocate(class))),
            "class" => Some(class_answer(class)),
            _ => None,
        };
    }
    let object = Object::at(message.receiver)?;
    match message.selector {
        "init" => Some(Answer::Owned(message.receiver)),
        "class" => Some(class_answer(object.class())),
        "dealloc" => {
            object::dealloc(object);
            Some(Answer::nothing())
        }
        "isKindOfClass:" => {
            let class = message.pointer::<Class>(0).cast_const();
            Some(Answer::flag(object.class().chain().any(|known| ptr::eq(known, class))))
        }
        "respondsToSelector:" => {
            // SAFETY: the argument is a selector.
            let sel = unsafe { std::mem::transmute::<usize, Sel>(message.word(0)) };
            let known = object.class().declared(sel.name()).is_some() || object.class().own(sel).is_some();
            Some(Answer::flag(known && !journal::is_hidden(sel.name())))
        }
        _ => None,
    }
}

fn of_string(message: &Message) -> Option<Answer> {
    if message.selector == "initWithBytes:length:encoding:" {
        let bytes = copied(message.pointer::<u8>(0), message.word(1));
        return filled(message, Data::Text(CString::new(bytes).ok()?));
    }
    let object = Object::at(message.receiver).filter(|_| !message.to_class())?;
    match (&object.body().data, message.selector) {
        (Data::Text(text), "lengthOfBytesUsingEncoding:") => Some(Answer::Word(text.as_bytes().len())),
        (Data::Text(text), "UTF8String") => Some(Answer::Word(text.as_ptr().expose_provenance())),
        _ => None,
    }
}

fn of_data(message: &Message) -> Option<Answer> {
    if message.selector == "initWithBytes:length:" {
        return filled(message, Data::Bytes(copied(message.pointer::<u8>(0), message.word(1))));
    }
    let object = Object::at(message.receiver).filter(|_| !message.to_class())?;
    match (&object.body().data, message.selector) {
        (Data::Bytes(bytes), "length") => Some(Answer::Word(bytes.len())),
        (Data::Bytes(bytes), "bytes") => Some(Answer::Word(bytes.as_ptr().expose_provenance())),
        _ => None,
    }
}

fn references(pointer: *const *const Object, count: usize) -> Vec<Ref> {
    copied(pointer, count).into_iter().filter_map(Ref::to).collect()
}

fn of_array(message: &Message) -> Option<Answer> {
    if message.selector == "initWithObjects:count:" {
        return filled(message, Data::List(references(message.pointer::<*const Object>(0), message.word(1))));
    }
    let object = Object::at(message.receiver).filter(|_| !message.to_class())?;
    let Data::List(list) = &object.body().data else { return None };
    Some(match message.selector {
        "count" => Answer::Word(list.len()),
        "firstObject" => Answer::Object(list.first().cloned()),
        "objectAtIndex:" => Answer::Object(list.get(message.word(0)).cloned()),
        "getObjects:" => {
            // SAFETY: the program passes room for all of them.
            let room =
                unsafe { std::slice::from_raw_parts_mut(message.pointer::<*const Object>(0), list.len()) };
            for (place, object) in room.iter_mut().zip(list) {
                *place = object.pointer();
            }
            Answer::nothing()
        }
        _ => return None,
    })
}

fn of_dictionary(message: &Message) -> Option<Answer> {
    if message.selector != "initWithObjects:forKeys:count:" {
        return None;
    }
    let [objects, keys] = [0, 1].map(|at| references(message.pointer::<*const Object>(at), message.word(2)));
    filled(message, Data::Pairs(keys.into_iter().zip(objects).collect()))
}

fn of_url(message: &Message) -> Option<Answer> {
    let text = || message.text(0);
    match message.selector {
        "fileURLWithPath:" => Some(Answer::Object(Some(url(&text())))),
        "URLWithString:" => Some(Answer::Object(Some(text()).filter(|t| t.contains("://")).map(|t| url(&t)))),
        _ => None,
    }
}

fn url(text: &str) -> Ref {
    Ref::new(&table::CLASS_NSURL, Data::Text(CString::new(text).unwrap_or_default()))
}

fn of_file(message: &Message) -> Option<Answer> {
    if message.selector != "initWithFileDescriptor:closeOnDealloc:" {
        return None;
    }
    if message.word(1) & 0xff == 0 {
        journal::wrong("a file handle does not close its file".into());
    }
    let file = i32::try_from(message.word(0) & 0xffff_ffff).ok()?;
    // SAFETY: it closes the file, so it is its own.
    filled(message, Data::File(unsafe { OwnedFd::from_raw_fd(file) }))
}

fn of_error(message: &Message) -> Option<Answer> {
    let object = Object::at(message.receiver).filter(|_| !message.to_class())?;
    let (domain, code, text) = match &object.body().data {
        Data::Error { domain, code, text } => (*domain, *code, text.clone()),
        _ => return None,
    };
    Some(match message.selector {
        "domain" => Answer::Object(Some(string(domain))),
        "code" => Answer::Word(code.cast_unsigned()),
        "localizedDescription" => Answer::Object(Some(string(text))),
        "localizedFailureReason" => Answer::Object(None),
        "underlyingErrors" => {
            let cause = (code != 1).then(|| error(("NSPOSIXErrorDomain", 1, "the cause")));
            Answer::Object(Some(array(cause.into_iter().collect())))
        }
        _ => return None,
    })
}

/// Writes an error where a call of the framework wants it.
pub(crate) fn write_error(to: *mut c_void, fault: journal::Fault) {
    let to = to.cast::<*const Object>();
    if !to.is_null() {
        // The program takes it over from a pool, or loses it.
        let error = error(fault).leak();
        object::autorelease(error);
        // SAFETY: the program passes a pointer to where an error goes.
        unsafe { *to = error };
    }
}
