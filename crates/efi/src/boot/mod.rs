//! Boot services (UEFI 7), in the order of their table.

mod event;
mod image;
mod memory;
mod misc;
mod protocol;

pub(crate) use event::TPL_APPLICATION;
pub(crate) use image::LoadedImage;
pub(crate) use memory::Pools;

use crate::{abi::UNSUPPORTED, call::Service};

/// `EFI_BOOT_SERVICES` (4.4), behind its header.
pub(crate) const SERVICES: [Service; 44] = [
    event::raise_tpl,
    event::restore_tpl,
    memory::allocate_pages,
    memory::free_pages,
    memory::get_memory_map,
    memory::allocate_pool,
    memory::free_pool,
    event::create_event,
    event::set_timer,
    event::wait_for_event,
    event::signal_event,
    event::close_event,
    event::check_event,
    protocol::install,
    protocol::reinstall,
    protocol::uninstall,
    protocol::handle_protocol,
    // Reserved.
    |_, _| Err(UNSUPPORTED),
    protocol::register_notify,
    protocol::locate_handle,
    protocol::locate_device_path,
    misc::install_configuration_table,
    image::load_image,
    image::start_image,
    image::exit,
    image::unload_image,
    misc::exit_boot_services,
    misc::get_next_monotonic_count,
    event::stall,
    misc::set_watchdog_timer,
    protocol::connect_controller,
    protocol::disconnect_controller,
    protocol::open_protocol,
    protocol::close_protocol,
    protocol::open_protocol_information,
    protocol::protocols_per_handle,
    protocol::locate_handle_buffer,
    protocol::locate_protocol,
    protocol::install_multiple,
    protocol::uninstall_multiple,
    misc::calculate_crc32,
    misc::copy_mem,
    misc::set_mem,
    event::create_event_ex,
];
