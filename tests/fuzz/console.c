/* SPDX-License-Identifier: Apache-2.0 */
/* The console, with somebody typing and a terminal that changes its size. */
#include "tests/fuzz/device.h"
#include "virtio/console.h"

static void output(void *context, const void *data, size_t len)
{
	(void)context;
	touch(data, len);
}

static void terminal(struct machine *m, struct input *in)
{
	static const uint8_t typed[300];
	uint8_t what = in8(in);
	uint16_t cols = what % 4 == 0 ? in16(in) : 0, rows = what % 4 == 0 ? in16(in) : 0;
	if (what % 4 == 0)
		console_resize(m->dev, cols, rows);
	else if (what % 4 == 1)
		MUST(console_input(m->dev, typed, what) <= what);
	else
		machine_step(m, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	machine_open(&m);
	MUST(console_create(&m.dev, &m.env, &(struct console_options){.output = output}, &err) == 0);
	machine_run(&m, &in, terminal);
	return 0;
}
