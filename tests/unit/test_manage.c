/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the monitor, over its real socket. */
#include "tests/unit/fake_machine.h"
#include "vmm/shared/proto.h"

static void pause_and_resume(void)
{
	REQUIRE(set_up(false));
	ask(0, MANAGE_RESUME, 0);
	CHECK_EQ(answer(0, NULL), -EALREADY);
	ask(0, MANAGE_PAUSE, 0);
	CHECK_EQ(answer(0, NULL), 0);
	CHECK(!machine.runs && told == 1);
	ask(1, MANAGE_PAUSE, 0);
	CHECK_EQ(answer(1, NULL), -EALREADY);
	hang_up(0); /* it has not held it */
	CHECK(!machine.runs);
	ask(1, MANAGE_RESUME, 0);
	CHECK_EQ(answer(1, NULL), 0);
	CHECK(machine.runs && told == 0);
	ask(1, MANAGE_REFRESH_DISKS, 0);
	CHECK_EQ(answer(1, NULL), 0);
	CHECK_EQ(machine.refreshes, 1);
	CHECK_EQ(tellings, 2);
	tear_down();
}

/* Whoever holds the machine, it stands still until the last of them is gone, whatever else is asked. */
static void holds_end_with_their_connections(void)
{
	REQUIRE(set_up(false));
	ask(0, MANAGE_PAUSE, MANAGE_HOLD);
	CHECK_EQ(answer(0, NULL), 0);
	ask(1, MANAGE_PAUSE, MANAGE_HOLD);
	CHECK_EQ(answer(1, NULL), 0);
	hang_up(0);
	CHECK(!machine.runs && told == 0);
	/* It was not paused; it is held. */
	ask(2, MANAGE_RESUME, 0);
	CHECK_EQ(answer(2, NULL), -EALREADY);
	CHECK(!machine.runs);
	ask(2, MANAGE_PAUSE, 0);
	CHECK_EQ(answer(2, NULL), 0);
	ask(2, MANAGE_RESUME, 0);
	CHECK_EQ(answer(2, NULL), 0);
	CHECK(!machine.runs);
	ask(1, MANAGE_FORK, 0); /* as does a library with several clones, on other connections */
	CHECK_EQ(answer(1, NULL), 0);
	/* That connection became the clone's: nobody holds the machine here any more. */
	CHECK(machine.runs && told == 0);
	/* A pause that began before a hold outlasts it. */
	ask(2, MANAGE_PAUSE, 0);
	ask(3, MANAGE_PAUSE, MANAGE_HOLD);
	CHECK(answer(2, NULL) == 0 && answer(3, NULL) == 0);
	hang_up(3);
	CHECK(!machine.runs && told == 1);
	/* Resumed while it is held, it goes on only with the holder's end. */
	ask(3, MANAGE_PAUSE, MANAGE_HOLD);
	ask(2, MANAGE_RESUME, 0);
	CHECK(answer(3, NULL) == 0 && answer(2, NULL) == 0);
	CHECK(!machine.runs);
	hang_up(3);
	CHECK(machine.runs && told == 0);
	/* And an earlier holder is none of a later pause. */
	ask(4, MANAGE_PAUSE, MANAGE_HOLD);
	CHECK_EQ(answer(4, NULL), 0);
	hang_up(4);
	CHECK(machine.runs);
	/* A holder can end its hold, and be told so. */
	ask(2, MANAGE_PAUSE, 0);
	ask(5, MANAGE_PAUSE, MANAGE_HOLD);
	ask(5, MANAGE_RESUME, 0);
	CHECK(answer(2, NULL) == 0 && answer(5, NULL) == 0 && answer(5, NULL) == 0);
	CHECK(!machine.runs && told == 1);
	ask(2, MANAGE_RESUME, 0);
	CHECK_EQ(answer(2, NULL), 0);
	CHECK(machine.runs && told == 0);
	tear_down();
}

static void first_hangs_up(void)
{
	hang_up(0);
	CHECK(!machine.runs);
}

/* A holder dies while another's request is carried out: the machine goes on when that one is done. */
static void a_holder_dies_amid_a_request(void)
{
	REQUIRE(set_up(true));
	ask(0, MANAGE_PAUSE, MANAGE_HOLD);
	guest_answers(0);
	steps();
	CHECK_EQ(answer(0, NULL), 0);
	machine.while_pausing = first_hangs_up;
	ask(1, MANAGE_FORK, 0);
	CHECK_EQ(answer(1, NULL), 0);
	CHECK_EQ(forks, 1);
	CHECK(machine.runs && told == 0);
	CHECK_EQ(control.thaws, control.freezes);
	tear_down();
}

/* The client is gone when its turn comes, or when its answer does. */
static void a_client_dies_before_its_answer(void)
{
	REQUIRE(set_up(true));
	ask(0, MANAGE_PAUSE, MANAGE_HOLD);
	ask(1, MANAGE_PAUSE, MANAGE_HOLD);
	ask(2, MANAGE_FORK, 0);
	hang_up(0);
	hang_up(1);
	hang_up(2);
	CHECK(machine.runs);
	guest_answers(0);
	steps();
	/* A machine that is held by nobody is let go; the next one in the queue has to freeze it again. */
	guest_answers(0);
	steps();
	guest_answers(0);
	steps();
	CHECK_EQ(forks, 1); /* whose child finds its connection closed */
	CHECK(machine.runs && told == 0);
	CHECK_EQ(control.freezes, 3);
	CHECK_EQ(control.thaws, 3);
	ask(3, MANAGE_REFRESH_DISKS, 0);
	CHECK_EQ(answer(3, NULL), 0);
	tear_down();
}

/* One at a time, and the next only when the guest's sessions run again. */
static void requests_wait_for_their_turn(void)
{
	REQUIRE(set_up(true));
	control.thaws_at_once = false;
	for (int i = 0; i < 5; i++)
		ask(i, MANAGE_FORK, 0);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(control.freezes, i + 1);
		CHECK_EQ(forks, i);
		guest_answers(0); /* frozen */
		steps();
		CHECK_EQ(forks, i + 1);
		CHECK_EQ(control.freezes, i + 1);
		CHECK(machine.runs);
		guest_answers(i == 2 ? -ETIMEDOUT : 0); /* thawed */
		steps();
	}
	for (int i = 0; i < 5; i++)
		CHECK_EQ(answer(i, NULL), 0);
	tear_down();
}

static void a_guest_that_does_not_freeze(void)
{
	static const int errors[] = {-ETIMEDOUT, -EBUSY, -ECONNRESET, -ECANCELED};
	struct manage_reply reply;
	REQUIRE(set_up(true));
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		ask(0, i % 2 ? MANAGE_PAUSE : MANAGE_FORK, 0);
		guest_answers(errors[i]);
		steps();
		CHECK_EQ(answer(0, &reply), errors[i]);
		CHECK(machine.runs);
	}
	control.refusal = -ENOTCONN;
	ask(0, MANAGE_PAUSE, MANAGE_HOLD);
	CHECK_EQ(answer(0, &reply), -ENOTCONN);
	CHECK(strstr(reply.text, "not ready"));
	control.refusal = 0;
	CHECK_EQ(machine.pauses, 0);
	CHECK_EQ(tellings, 0);
	ask(0, MANAGE_PAUSE, 0);
	guest_answers(0);
	steps();
	CHECK_EQ(answer(0, NULL), 0);
	tear_down();
}

/* Waits for the answer with the counts, which a worker of the ring collects. */
static int await_stats(int i, struct stats *stats)
{
	struct manage_reply reply;
	int got = NO_ANSWER;
	for (int tries = 0; tries < 10000 && got == NO_ANSWER; tries++) {
		loop_step(loop, 1);
		got = answer(i, &reply);
	}
	return got == 0 && recv(fd[i], stats, sizeof(*stats), 0) != (ssize_t)sizeof(*stats) ? HUNG_UP : got;
}

/* They wait for no other request, and disturb none. */
static void counts_are_told_out_of_turn(void)
{
	struct stats stats;
	REQUIRE(set_up(true));
	memset(gmem_ptr(&machine.gmem, gpa(0), 1 << 20), 1, 1 << 20);
	counts_note(&counts, PROTO_STARTED);
	counts_note(&counts, PROTO_STARTED);
	counts_note(&counts, PROTO_EXITED);
	counts_note(&counts, PROTO_FAILED);
	ask(0, MANAGE_PAUSE, 0); /* the guest does not answer */
	ask(1, MANAGE_STATS, 0);
	ask(2, MANAGE_STATS, 0);
	REQUIRE(await_stats(1, &stats) == 0);
	CHECK(stats.size == sizeof(stats) && stats.cpus == 3 && stats.device[0].bytes_to_guest == 77);
	CHECK(stats.sessions_running == 1 && stats.sessions_ended == 1 && stats.sessions_failed == 1);
	CHECK(stats.cpu_ns > 0 && stats.cpu_ns >= stats.loop_ns);
	CHECK_EQ(stats.flags, STATS_MEMORY);
	CHECK(stats.guest.resident >= 1 << 20 && stats.guest.resident <= MEMORY);
	CHECK(stats.guest.private >= 1 << 20 && stats.monitor.resident > 0);
	CHECK_EQ(await_stats(2, &stats), 0);
	CHECK_EQ(answer(0, NULL), NO_ANSWER);
	CHECK(machine.runs);
	guest_answers(0);
	steps();
	CHECK_EQ(answer(0, NULL), 0);
	ask(1, MANAGE_STATS, 0); /* again, of a paused one */
	CHECK_EQ(await_stats(1, &stats), 0);
	CHECK(!machine.runs);
	tear_down();
}

/* Whoever asked is gone, or the monitor ends, while they are collected. */
static void counts_for_nobody(void)
{
	struct manage_request r = request(MANAGE_STATS, 0);
	struct stats stats;
	REQUIRE(set_up(false));
	CHECK(dial(0));
	send_bytes(0, &r, sizeof(r), NULL, 0);
	close(fd[0]);
	fd[0] = -1;
	steps();
	ask(1, MANAGE_STATS, 0);
	CHECK_EQ(await_stats(1, &stats), 0);
	CHECK(dial(2));
	send_bytes(2, &r, sizeof(r), NULL, 0);
	while (!counts.reading)
		loop_step(loop, 1);
	tear_down();
}

/* A clone has none of its own. */
static void the_memory_may_be_unknown(void)
{
	struct stats stats;
	REQUIRE(set_up(false));
	close(counts.smaps_fd);
	counts.smaps_fd = -1;
	ask(0, MANAGE_STATS, 0);
	CHECK_EQ(await_stats(0, &stats), 0);
	CHECK(stats.flags == 0 && stats.guest.resident == 0 && stats.cpus == 3);
	tear_down();
}

static void garbage_is_refused(void)
{
	const struct manage_request good = request(MANAGE_PAUSE, 0);
	struct manage_request bad[] = {good, good, good, good, good, good, good, good, good};
	bad[0].magic ^= 1;
	bad[1].version++;
	bad[2].op = 0;
	bad[3].op = MANAGE_STATS + 1;
	bad[4].op = UINT16_MAX;
	bad[5].flags = MANAGE_HOLD << 1;
	bad[6].flags = UINT32_MAX;
	bad[7].value = 1;
	bad[8].op = MANAGE_SNAPSHOT; /* without a file */
	REQUIRE(set_up(false));
	CHECK(dial(0));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		send_bytes(0, &bad[i], sizeof(bad[i]), NULL, 0);
		steps();
		CHECK_EQ(answer(0, NULL), -EPROTO);
	}
	/* Part of a request ends the connection. */
	send_bytes(0, &good, sizeof(good) - 1, NULL, 0);
	steps();
	CHECK_EQ(answer(0, NULL), HUNG_UP);
	CHECK(machine.runs);
	CHECK_EQ(machine.pauses, 0);
	/* Two at once are two. */
	struct manage_request two[] = {good, request(MANAGE_RESUME, 0)};
	CHECK(dial(1));
	send_bytes(1, two, sizeof(two), NULL, 0);
	steps();
	CHECK_EQ(answer(1, NULL), 0);
	CHECK_EQ(answer(1, NULL), 0);
	CHECK(machine.runs);
	close(fd[0]);
	fd[0] = -1;
	tear_down();
}

/* Waits for the answer to a snapshot, which a process of its own writes. */
static int await_answer(int i, struct manage_reply *reply)
{
	int got = NO_ANSWER;
	for (int tries = 0; tries < 10000 && got == NO_ANSWER; tries++) {
		loop_step(loop, 1);
		got = answer(i, reply);
	}
	return got;
}

/* None that came is left open, whatever the answer. */
static void descriptors_are_taken_one_by_one(void)
{
	int file = memfd_create("snapshot", MFD_CLOEXEC), files[8];
	struct manage_request save = request(MANAGE_SNAPSHOT, 0), plain = request(MANAGE_PAUSE, 0);
	struct manage_reply reply;
	REQUIRE(set_up(false));
	for (size_t i = 0; i < 8; i++)
		files[i] = file;
	ask(0, MANAGE_RESUME, 0);
	CHECK_EQ(answer(0, NULL), -EALREADY);
	int before = count_files();
	for (size_t count = 2; count <= 8; count++) {
		send_bytes(0, &save, sizeof(save), files, count);
		steps();
		CHECK_EQ(answer(0, NULL), -EMFILE);
	}
	send_bytes(0, &plain, sizeof(plain), files, 1);
	steps();
	CHECK_EQ(answer(0, NULL), -EPROTO);
	CHECK_EQ(count_files(), before);
	memset(gmem_ptr(&machine.gmem, gpa(8192), 4096), 1, 4096);
	send_bytes(0, &save, sizeof(save), files, 1);
	CHECK_EQ(await_answer(0, &reply), 0);
	CHECK_EQ(reply.layout.state_size, 100);
	CHECK_EQ(reply.layout.data_size, 4096);
	CHECK_EQ(count_files(), before);
	/* One that cannot be written to. */
	int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
	send_bytes(0, &save, sizeof(save), &other, 1);
	CHECK_EQ(await_answer(0, NULL), -EBADF);
	close(other);
	CHECK_EQ(count_files(), before);
	CHECK(machine.runs);
	CHECK_EQ(machine.pauses, 2);
	/* With the connection goes what came with part of a request. */
	send_bytes(0, &save, 3, files, 1);
	steps();
	CHECK_EQ(answer(0, NULL), HUNG_UP);
	CHECK_EQ(count_files(), before - 1);
	close(file);
	tear_down();
}

/* More than the monitor takes at once wait, and each has its turn, however the connections before it end. */
static void many_clients(void)
{
	REQUIRE(set_up(false));
	for (int i = 0; i < CLIENTS; i++)
		CHECK(dial(i));
	steps();
	for (int i = 0; i < CLIENTS; i++) {
		struct manage_request r = request(i % 3 ? MANAGE_FORK : MANAGE_REFRESH_DISKS, 0);
		send_bytes(i, &r, sizeof(r), NULL, 0);
	}
	/* Those who fork are done, and their slots are free for others. */
	steps();
	for (int i = 0; i < CLIENTS; i++)
		if (i % 3 == 0)
			hang_up(i);
	for (int i = 0; i < CLIENTS; i++)
		if (i % 3)
			CHECK_EQ(answer(i, NULL), 0);
	CHECK_EQ(forks, CLIENTS - (CLIENTS + 2) / 3);
	CHECK_EQ(machine.refreshes, (CLIENTS + 2) / 3);
	tear_down();
}

static void a_fork_that_fails(void)
{
	static const int errors[] = {-EAGAIN, -ENOMEM};
	struct manage_reply reply;
	REQUIRE(set_up(false));
	for (size_t i = 0; i < 2; i++) {
		fork_result = errors[i];
		ask(0, MANAGE_FORK, 0);
		CHECK_EQ(answer(0, &reply), errors[i]);
		CHECK(strstr(reply.text, "process"));
		CHECK(machine.runs);
	}
	/* The connection is still that of the source. */
	ask(0, MANAGE_PAUSE, 0);
	CHECK_EQ(answer(0, NULL), 0);
	tear_down();
}

static void a_machine_that_cannot_be_paused(void)
{
	REQUIRE(set_up(true));
	machine.result = -ENOMEM;
	ask(0, MANAGE_PAUSE, MANAGE_HOLD);
	guest_answers(0);
	steps();
	CHECK_EQ(answer(0, NULL), -ENOMEM);
	CHECK(machine.runs && told == 0);
	CHECK_EQ(control.thaws, 1);
	tear_down();
}

/* It has ended amid the pause: it need not go on, and nothing is carried out any more. */
static void a_machine_that_ends_amid_a_pause(void)
{
	REQUIRE(set_up(true));
	machine.result = -ESHUTDOWN;
	ask(0, MANAGE_FORK, 0);
	ask(1, MANAGE_PAUSE, 0);
	guest_answers(0);
	steps();
	CHECK_EQ(answer(0, NULL), -ESHUTDOWN);
	CHECK_EQ(answer(1, NULL), NO_ANSWER);
	CHECK_EQ(forks, 0);
	CHECK_EQ(control.thaws, 0);
	manage_close(manage);
	manage_destroy(manage);
	manage = NULL;
	CHECK_EQ(answer(1, NULL), HUNG_UP);
	loop_destroy(loop);
	gmem_destroy(&machine.gmem);
	close(fd[0]);
	close(fd[1]);
}

static void stop_it(void)
{
	manage_stop(manage);
}

/* The guest must run to power off. */
static void a_stop_ends_every_pause(void)
{
	enum { PAUSED_NOW, HELD, FREEZING, PAUSING, CASES };
	for (int when = 0; when < CASES; when++) {
		REQUIRE(set_up(true));
		machine.while_pausing = when == PAUSING ? stop_it : NULL;
		ask(0, MANAGE_PAUSE, when == HELD ? MANAGE_HOLD : 0);
		if (when != FREEZING)
			guest_answers(0);
		steps();
		stop_it();
		if (when == FREEZING)
			guest_answers(-ECANCELED);
		steps();
		CHECK_EQ(answer(0, NULL), when < FREEZING ? 0 : -ECANCELED);
		CHECK(machine.runs && told == 0);
		CHECK_EQ(control.thaws, when != FREEZING);
		ask(1, MANAGE_FORK, 0);
		CHECK_EQ(answer(1, NULL), -ECANCELED);
		ask(1, MANAGE_RESUME, 0);
		CHECK_EQ(answer(1, NULL), -EALREADY);
		CHECK(machine.runs);
		tear_down();
	}
}

static void a_machine_goes_on_while_it_is_written(void)
{
	struct manage_request save = request(MANAGE_SNAPSHOT, 0);
	struct manage_reply reply;
	int file = memfd_create("snapshot", MFD_CLOEXEC), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	REQUIRE(set_up(false));
	CHECK(dial(0));
	/* The guest runs before the answer, and the next request is served. */
	send_bytes(0, &save, sizeof(save), &file, 1);
	while (machine.saves == 0)
		loop_step(loop, 1);
	CHECK(machine.runs);
	CHECK_EQ(await_answer(0, &reply), 0);
	CHECK(reply.layout.state_size == 100 && reply.layout.data_offset > 0);
	struct stat st;
	CHECK(fstat(file, &st) == 0 && st.st_size > SNAPSHOT_HEAD_SIZE);
	/* An error of the process is the request's. */
	send_bytes(0, &save, sizeof(save), &full, 1);
	CHECK(await_answer(0, &reply) < 0);
	CHECK(machine.runs);
	/* Held, it stands still until it is written. */
	ask(0, MANAGE_PAUSE, MANAGE_HOLD);
	CHECK_EQ(answer(0, NULL), 0);
	send_bytes(0, &save, sizeof(save), &file, 1);
	CHECK_EQ(await_answer(0, &reply), 0);
	CHECK(!machine.runs);
	CHECK_EQ(reply.layout.state_size, 100);
	close(file);
	close(full);
	tear_down();
}

/* It never runs, so whoever wants it to stand still has that. */
static void a_template_is_forked_only(void)
{
	static char state[64];
	struct snapshot_origin origin = {.state = state, .state_size = sizeof(state)};
	struct err err = {0};
	REQUIRE(set_up(false));
	struct manage_options options = {
	        .path = path, .loop = loop, .origin = &origin, .paused = on_paused, .fork = on_fork};
	manage_close(manage);
	manage_destroy(manage);
	machine.runs = false; /* for on_fork */
	REQUIRE(manage_create(&manage, &options, &err) == 0);
	ask(0, MANAGE_PAUSE, MANAGE_HOLD);
	CHECK_EQ(answer(0, NULL), 0);
	ask(1, MANAGE_FORK, 0);
	CHECK_EQ(answer(1, NULL), 0);
	CHECK_EQ(forks, 1);
	ask(2, MANAGE_PAUSE, 0);
	CHECK_EQ(answer(2, NULL), -EALREADY);
	ask(2, MANAGE_RESUME, 0);
	CHECK_EQ(answer(2, NULL), -EOPNOTSUPP);
	ask(2, MANAGE_REFRESH_DISKS, 0);
	CHECK_EQ(answer(2, NULL), -EOPNOTSUPP);
	hang_up(0);
	stop_it();
	CHECK_EQ(tellings, 0);
	CHECK_EQ(machine.pauses, 0);
	tear_down();
}

TEST_MAIN("manage", {"pause_and_resume", pause_and_resume},
        {"holds_end_with_their_connections", holds_end_with_their_connections},
        {"a_holder_dies_amid_a_request", a_holder_dies_amid_a_request},
        {"a_client_dies_before_its_answer", a_client_dies_before_its_answer},
        {"requests_wait_for_their_turn", requests_wait_for_their_turn},
        {"a_guest_that_does_not_freeze", a_guest_that_does_not_freeze},
        {"counts_are_told_out_of_turn", counts_are_told_out_of_turn}, {"counts_for_nobody", counts_for_nobody},
        {"the_memory_may_be_unknown", the_memory_may_be_unknown}, {"garbage_is_refused", garbage_is_refused},
        {"descriptors_are_taken_one_by_one", descriptors_are_taken_one_by_one}, {"many_clients", many_clients},
        {"a_fork_that_fails", a_fork_that_fails}, {"a_machine_that_cannot_be_paused", a_machine_that_cannot_be_paused},
        {"a_machine_that_ends_amid_a_pause", a_machine_that_ends_amid_a_pause},
        {"a_stop_ends_every_pause", a_stop_ends_every_pause},
        {"a_machine_goes_on_while_it_is_written", a_machine_goes_on_while_it_is_written},
        {"a_template_is_forked_only", a_template_is_forked_only})
