/* SPDX-License-Identifier: Apache-2.0 */
/* The rates of a new sandbox's devices. */
#include "vmm/lib/describe.h"

static void set_disk(struct creation *creation, uint32_t i, struct wisp_rate rate)
{
	creation->description.disk[i].rate = rate;
	creation->disk_info[i].rate = rate; /* for its clones */
}

int creation_set_rates(struct creation *creation, struct wisp_error *error)
{
	const struct wisp_create_options *options = &creation->options;
	struct description *d = &creation->description;
	uint32_t image = d->flags & DESCRIPTION_IMAGE ? 1 : 0, overlay = d->flags & DESCRIPTION_OVERLAY ? 1 : 0;
	int r = 0;
	d->vsock_rate = options->vsock_rate;
	d->console_rate = options->console_rate;
	for (uint32_t i = 0; i < d->disk_count && r == 0; i++) {
		struct wisp_disk disk = {0};
		uint32_t further = i - image - overlay;
		if (i < image)
			disk.rate = options->image_rate;
		else if (i < image + overlay)
			disk.rate = options->overlay_rate;
		else if (further < options->disk_count)
			r = lib_copy_element(&disk, sizeof(disk), options->disks, options->disk_size, further,
			        "struct wisp_disk", error);
		set_disk(creation, i, disk.rate);
	}
	return r;
}
