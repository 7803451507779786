/* What each module's port is, and the XML description of the registers behind it. */
#include "producer.h"

#define EMBED(name, file)                                                                                          \
    __asm__(".section .rodata\n" #name ":\n.incbin \"" NATIVE_DIRECTORY "/" file "\"\n" #name "_end:\n.previous\n"); \
    extern const char name[], name##_end[]

EMBED(device_xml, "device.xml");
EMBED(local_device_xml, "local_device.xml");
EMBED(stream_xml, "stream.xml");

#define TEXT(macro) TEXT_(macro)
#define TEXT_(macro) #macro

/* Modules of which there is nothing but their ID to tell. */
#define MODULE_XML(model, port, id_feature, guid)                                                                     \
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"                                                                    \
    "<RegisterDescription ModelName=\"" model "\" VendorName=\"tfanet_edge\" ToolTip=\"\" StandardNameSpace=\"GEV\""  \
    " SchemaMajorVersion=\"1\" SchemaMinorVersion=\"1\" SchemaSubMinorVersion=\"0\" MajorVersion=\"1\""               \
    " MinorVersion=\"0\" SubMinorVersion=\"0\" ProductGuid=\"" guid "\" VersionGuid=\"" guid "\""                     \
    " xmlns=\"http://www.genicam.org/GenApi/Version_1_1\">\n"                                                         \
    "<Category Name=\"Root\"><pFeature>" id_feature "</pFeature></Category>\n"                                        \
    "<StringReg Name=\"" id_feature "\"><Address>0</Address><Length>" TEXT(CAMERA_NAME_BYTES) "</Length>"             \
    "<AccessMode>RO</AccessMode><pPort>" port "</pPort></StringReg>\n"                                                \
    "<Port Name=\"" port "\"/>\n"                                                                                     \
    "</RegisterDescription>\n"

static const char system_xml[] = MODULE_XML("ReplaySystem", "TLPort", "TLID", "9e0c1f9a-5d0f-4a57-9d4d-5a3c6b6f0a01");
static const char interface_xml[] =
    MODULE_XML("ReplayInterface", "InterfacePort", "InterfaceID", "9e0c1f9a-5d0f-4a57-9d4d-5a3c6b6f0a02");

GC_ERROR port_describe(void *handle, struct port *port) {
    struct module *module = handle_resolve(handle, ANY_MODULE);
    switch (module != NULL ? module->kind : ANY_MODULE) {
    case SYSTEM:
        *port = (struct port){.id = PRODUCER_ID, .module = "TLSystem", .name = "TLPort", .file = "replay_system.xml",
                              .xml = system_xml, .xml_end = system_xml + sizeof system_xml - 1};
        return GC_ERR_SUCCESS;
    case INTERFACE:
        *port = (struct port){.id = INTERFACE_ID, .module = "TLInterface", .name = "InterfacePort",
                              .file = "replay_interface.xml", .xml = interface_xml,
                              .xml_end = interface_xml + sizeof interface_xml - 1};
        return GC_ERR_SUCCESS;
    case DEVICE: {
        struct device *device = (struct device *)module;
        *port = (struct port){.id = device->listing.serial, .module = "TLDevice", .name = "DevicePort",
                              .file = "replay_local_device.xml", .xml = local_device_xml,
                              .xml_end = local_device_xml_end, .setting = &device->event_notification,
                              .setting_limit = 1};
        return GC_ERR_SUCCESS;
    }
    case STREAM: {
        const struct stream *stream = (struct stream *)module;
        *port = (struct port){.id = STREAM_ID, .module = "TLDataStream", .name = "StreamPort",
                              .file = "replay_stream.xml", .xml = stream_xml, .xml_end = stream_xml_end,
                              .setting = &stream->device->file.header->buffer_handling,
                              .setting_limit = NEWEST_ONLY, .is_locked = stream->is_running};
        return GC_ERR_SUCCESS;
    }
    case REMOTE_DEVICE: {
        struct device *device = (struct device *)((char *)module - offsetof(struct device, remote));
        *port = (struct port){.remote = device, .id = device->listing.serial, .module = "Device", .name = "Device",
                              .file = "replay_device.xml", .xml = device_xml, .xml_end = device_xml_end};
        return GC_ERR_SUCCESS;
    }
    default:
        return fail(GC_ERR_INVALID_HANDLE, "%p is not the handle of a port", handle);
    }
}
