/* SPDX-License-Identifier: Apache-2.0 */
/* The console. */
#include "tests/fuzz/device.h"
#include "virtio/console.h"

static void output(void *context, const void *data, size_t len)
{
	(void)context;
	touch(data, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	machine_open(&m);
	MUST(console_create(&m.dev, &m.env, &(struct console_options){.output = output}, &err) == 0);
	machine_run(&m, &in, act_step);
	return 0;
}
