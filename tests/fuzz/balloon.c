/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon: whatever a guest reports as free is inside its own memory. */
#include "tests/fuzz/device.h"
#include "virtio/balloon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = {0};
	struct machine m;
	machine_open(&m);
	MUST(balloon_create(&m.dev, &m.env, &err) == 0);
	machine_run(&m, &in, act_step);
	return 0;
}
