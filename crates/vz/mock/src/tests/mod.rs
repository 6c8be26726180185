//! The tests, and how the framework's objects are compared with plans.

#[path = "../../../src/examples.rs"]
mod examples;
mod life;
mod notices;
mod plans;

use std::{fs, os::fd::AsRawFd as _, path::Path, sync::Mutex};

use crate::{
    Object, Stream, Value,
    framework::Streams,
    objc::{
        class::lock,
        object::{Data, Property, Ref},
    },
};

/// The sockets that tests give to VMs, by what `/proc` calls them.
static SOCKETS: Mutex<Vec<(String, Stream)>> = Mutex::new(Vec::new());

fn name_of(file: i32) -> String {
    fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default().display().to_string()
}

/// The host's ends of a VM, with what must stay open meanwhile.
fn streams() -> (Streams, Vec<std::os::unix::net::UnixStream>) {
    let mut kept = Vec::new();
    let mut end = |stream| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        lock(&SOCKETS).push((name_of(theirs.as_raw_fd()), stream));
        kept.push(ours);
        Some(theirs.into())
    };
    let streams = Streams {
        console_input: end(Stream::ConsoleInput),
        console_output: end(Stream::ConsoleOutput),
        network: end(Stream::Network),
    };
    (streams, kept)
}

/// An object of the framework, as a plan would have it; properties in the order of their names.
pub(crate) fn shape(object: &Ref) -> Object {
    let properties = object.body().properties.clone();
    let mut shaped = Object::new(object.class().name());
    for (name, property) in properties {
        let value = match property {
            // The mock's own note.
            Property::Flag(_) if name == "validated" => None,
            Property::Flag(flag) => Some(Value::Flag(flag)),
            Property::Number(number) => Some(Value::Number(number)),
            Property::Constant(constant) => Some(Value::Constant(constant)),
            Property::Object(None) => None,
            Property::Object(Some(object)) => {
                let plain = matches!(object.body().data, Data::None);
                if plain { Some(Value::Object(shape(&object))) } else { value(&name, &object) }
            }
        };
        if let Some(value) = value {
            shaped.properties.push((Box::leak(name.into_boxed_str()), value));
        }
    }
    sorted(shaped)
}

fn value(name: &str, object: &Ref) -> Option<Value> {
    Some(match &object.body().data {
        Data::Text(text) if name == "name" && text.as_c_str() == c"com.redhat.spice.0" => {
            Value::Constant("VZSpiceAgentPortAttachment.spiceAgentPortName")
        }
        Data::Text(text) => Value::Text(text.to_str().ok()?.into()),
        Data::Bytes(bytes) => Value::Data(bytes.clone()),
        Data::List(list) if list.is_empty() => return None,
        Data::List(list) => Value::List(list.iter().map(shape).collect()),
        Data::Pairs(pairs) => {
            let pairs = pairs.iter().filter_map(|(name, object)| Some((name.text()?, shape(object))));
            Value::Named(pairs.collect())
        }
        Data::File(file) => {
            let name = name_of(file.as_raw_fd());
            let stream = lock(&SOCKETS).iter().find(|(known, _)| *known == name).map(|(_, stream)| *stream);
            stream.map_or(Value::Text(name), Value::Stream)
        }
        Data::None | Data::Error { .. } | Data::Live(_) => return None,
    })
}

/// Plans set properties in an order of their own.
fn sorted(mut object: Object) -> Object {
    object.properties.sort_by_key(|(name, _)| *name);
    for (_, value) in &mut object.properties {
        let sort = |object: &mut Object| *object = sorted(object.clone());
        match value {
            Value::Object(object) => sort(object),
            Value::List(list) => list.iter_mut().for_each(sort),
            Value::Named(named) => named.iter_mut().for_each(|(_, object)| sort(object)),
            _ => {}
        }
    }
    object
}

/// The same plan with a file in the place of a device that this host does not have.
fn with_device(plan: Object, device: &str, file: &Path) -> Object {
    let replace = |object: Object| with_device(object, device, file);
    let properties = plan.properties.into_iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) if text == device => Value::Text(file.display().to_string()),
            Value::Object(object) => Value::Object(replace(object)),
            Value::List(list) => Value::List(list.into_iter().map(replace).collect()),
            other => other,
        };
        (name, value)
    });
    Object { class: plan.class, properties: properties.collect() }
}
