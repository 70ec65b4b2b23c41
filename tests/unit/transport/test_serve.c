/* SPDX-License-Identifier: MIT */
/* Receiver and source against each other, over memory, with a real inbox in a temporary folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/message.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "0123456789abcdef"

static char root[64];

__attribute__((format(printf, 2, 3))) static void put(const char *name, const char *fmt, ...)
{
	char path[256];
	va_list ap;
	snprintf(path, sizeof path, "%s/acme/%s", root, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	assert_int_equal(fclose(f), 0);
}

static bool there(const char *name)
{
	char path[256];
	snprintf(path, sizeof path, "%s/acme/%s", root, name);
	return !access(path, F_OK);
}

static int shell(const char *text)
{
	char command[512];
	snprintf(command, sizeof command, "cd %s && %s", root, text);
	return system(command);
}

static void limits(uint64_t bytes)
{
	put("_outbox/limits",
	    "store=000102030405060708090a0b0c0d0e0f\nupload_bytes=%llu\nuploads=2\nfuture=x\n",
	    (unsigned long long)bytes);
}

static int make_store(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	strcpy(root, "/tmp/sosie-test-serve-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(
	        shell("mkdir -p acme/_inbox acme/_outbox/erp acme/_keys && mkfifo acme/_inbox/notify"), 0);
	put("../sosie.json", "{\"format\":1}");
	put("_keys/" KEY ".json", "{}");
	limits(0);
	return 0;
}

static int drop_store(void **state)
{
	char command[128];
	(void)state;
	snprintf(command, sizeof command, "rm -rf %s", root);
	return system(command);
}

/* One receiver in a thread. */
struct receiver {
	struct sosie_connector base;
	struct sosie_channel *near, *far;
	pthread_t thread;
	bool started;
	int rc;
	struct sosie_err err;
};

static void *receiver_run(void *arg)
{
	struct receiver *r = arg;
	struct sosie_serve_options o = {
	        .clock = sosie_clock_real(), .software = "test", .hello_ms = 5000, .idle_ms = 20000};
	struct sosie_io *io = NULL;
	struct sosie_inbox *in = NULL;
	r->rc = sosie_io_posix(&io, &r->err);
	if (!r->rc)
		r->rc = sosie_inbox_open(io, o.clock, root, "acme", KEY, &in, &r->err);
	if (!r->rc)
		r->rc = sosie_serve(r->far, in, &o, &r->err);
	sosie_inbox_close(in);
	sosie_io_free(io);
	sosie_channel_close(r->far);
	return NULL;
}

static int receiver_open(struct sosie_connector *c, struct sosie_channel **out, struct sosie_err *err)
{
	struct receiver *r = (struct receiver *)c;
	assert_int_equal(sosie_pair(256 << 10, &r->near, &r->far, err), 0);
	r->started = !pthread_create(&r->thread, NULL, receiver_run, r);
	assert_true(r->started);
	*out = r->near;
	return 0;
}

static struct sosie_session *dial(struct receiver *r)
{
	struct sosie_session *s = NULL;
	memset(r, 0, sizeof *r);
	r->base.open = receiver_open;
	int rc = sosie_session_open(&r->base, sosie_clock_real(), "sosie test", &s, &r->err);
	if (rc)
		print_error("%s\n", r->err.what);
	assert_int_equal(rc, 0);
	return s;
}

static int hang_up(struct receiver *r, struct sosie_session *s)
{
	sosie_session_close(s);
	pthread_join(r->thread, NULL);
	return r->rc;
}

static const struct sosie_digest parent;

static void begin(struct sosie_session *s, struct sosie_upload_id *id)
{
	struct sosie_err err;
	int rc = sosie_session_begin(s, "erp", SOSIE_UPLOAD_SEGMENT, &parent, 1, id, &err);
	if (rc)
		print_error("%s\n", err.what);
	assert_int_equal(rc, 0);
}

static void send_part(struct sosie_session *s, const struct sosie_upload_id *id, uint32_t index,
                      const void *data, size_t len)
{
	struct sosie_err err;
	assert_int_equal(sosie_session_part(s, "erp", id, index, &err), 0);
	assert_int_equal(sosie_session_data(s, data, len, &err), 0);
	assert_int_equal(sosie_session_part_end(s, len, &err), 0);
	assert_int_equal(sosie_session_durable(s), len);
}

static void test_upload_whole_is_committed_and_keeper_is_woken(void **state)
{
	struct receiver r;
	struct sosie_upload_id id;
	struct sosie_session_info info;
	struct sosie_err err;
	char path[256], byte, *text;
	size_t len, size = 20 << 20;
	uint8_t *data = calloc(1, size);
	bool keeper = false;
	(void)state;
	snprintf(path, sizeof path, "%s/acme/_inbox/notify", root);
	int bell = open(path, O_RDWR | O_NONBLOCK);
	struct sosie_session *s = dial(&r);
	sosie_session_info(s, &info);
	assert_string_equal(info.tenant.s, "acme");
	assert_int_equal(info.store.b[15], 15);
	begin(s, &id);
	send_part(s, &id, 0, data, size);
	assert_int_equal(sosie_session_commit(s, "erp", &id, "{}", 2, &keeper, &err), 0);
	assert_true(keeper);
	assert_int_equal(read(bell, &byte, 1), 1);
	assert_int_equal(
	        shell("ls acme/_inbox/erp/*.manifest acme/_inbox/erp/*.0 acme/_inbox/erp/*.key >/dev/null"),
	        0);
	assert_int_equal(shell("test $(cat acme/_inbox/erp/*.key) = " KEY), 0);
	assert_int_equal(shell("test $(stat -c %s acme/_inbox/erp/*.0) = 20971520"), 0);
	assert_int_equal(sosie_session_commit(s, "erp", &id, "{}", 2, &keeper, &err),
	                 0); /* told again: the same */
	assert_int_equal(sosie_session_commit(s, "erp", &id, "[]", 2, &keeper, &err), -SOSIE_EEXISTS);
	assert_int_equal(sosie_session_part(s, "erp", &id, 1, &err), -SOSIE_EEXISTS);
	assert_int_equal(sosie_session_wait(s, "erp", &id, 5, &text, &len, &keeper, &err), 0);
	assert_null(text);
	assert_int_equal(sosie_session_same(s, "{\"a\":1}", 7, &keeper, &err), 0);
	assert_true(there("_inbox/same." KEY));
	assert_int_equal(hang_up(&r, s), 0);
	close(bell);
	free(data);
}

/* By the keeper's own word, not the receiver's: the two may be of different releases. */
static void test_packed_ranges_are_welcome_where_the_keeper_says_so(void **state)
{
	static const struct {
		const char *line;
		uint64_t welcome;
	} cases[] = {{"", 0}, {"packed=0\n", 0}, {"packed=1\n", SOSIE_CAP_PACKED}, {"packed=2\n", 0}};
	struct sosie_session_info info;
	struct receiver r;
	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		put("_outbox/limits", "store=000102030405060708090a0b0c0d0e0f\n%s", cases[i].line);
		struct sosie_session *s = dial(&r);
		sosie_session_info(s, &info);
		assert_int_equal(info.capabilities,
		                 (SOSIE_CAP_ATTACHMENTS | SOSIE_CAP_COMPARE | SOSIE_CAP_JOIN) |
		                         cases[i].welcome);
		assert_int_equal(hang_up(&r, s), 0);
	}
}

static void test_outbox_statements_are_relayed(void **state)
{
	struct receiver r;
	struct sosie_upload_id id = {{0}};
	struct sosie_err err;
	char *text;
	void *bytes;
	size_t len;
	bool keeper;
	(void)state;
	struct sosie_session *s = dial(&r);
	assert_int_equal(sosie_session_head(s, "erp", &text, &len, &keeper, &err), 0);
	assert_null(text);
	put("_outbox/erp/head", "{\"h\":1}");
	put("_outbox/erp/00000000000000000000000000000000.verdict", "ok");
	put("_outbox/erp/00000000000000000000000000000000.differs", "%01500000d", 7);
	assert_int_equal(sosie_session_head(s, "erp", &text, &len, &keeper, &err), 0);
	assert_string_equal(text, "{\"h\":1}");
	assert_false(keeper);
	free(text);
	assert_int_equal(sosie_session_wait(s, "erp", &id, 30000, &text, &len, &keeper, &err), 0);
	assert_string_equal(text, "ok");
	free(text);
	assert_int_equal(sosie_session_differs(s, "erp", &id, 2000000, &bytes, &len, &err), 0);
	assert_int_equal(len, 1500000);
	assert_int_equal(((char *)bytes)[len - 1], '7');
	free(bytes);
	assert_int_equal(sosie_session_differs(s, "erp", &id, 1000, &bytes, &len, &err), -SOSIE_EPROTO);
	assert_int_equal(sosie_session_differs(s, "crm", &id, 1000, &bytes, &len, &err), -SOSIE_ENOTFOUND);
	assert_int_equal(hang_up(&r, s), 0);
}

static void test_join_after_cut_tells_durable_bytes(void **state)
{
	struct receiver r;
	struct sosie_upload_id id, other = {{9}};
	struct sosie_part_state *parts;
	struct sosie_err err;
	uint32_t count;
	bool committed;
	(void)state;
	struct sosie_session *s = dial(&r);
	begin(s, &id);
	send_part(s, &id, 0, "0123456789", 10);
	assert_int_equal(sosie_session_part(s, "erp", &id, 1, &err), 0);
	assert_int_equal(sosie_session_data(s, "abc", 3, &err), 0);
	hang_up(&r, s); /* with a part open */
	s = dial(&r);
	assert_int_equal(sosie_session_join(s, "erp", &other, &committed, &parts, &count, &err),
	                 -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_session_join(s, "erp", &id, &committed, &parts, &count, &err), 0);
	assert_false(committed);
	assert_int_equal(count, 2);
	assert_int_equal(parts[0].durable, 10);
	assert_int_equal(parts[1].index, 1);
	assert_int_equal(parts[1].durable, 3);
	free(parts);
	assert_int_equal(sosie_session_part(s, "erp", &id, 1, &err), -SOSIE_EEXISTS);
	send_part(s, &id, 2, "x", 1);
	assert_int_equal(hang_up(&r, s), 0);
}

static void test_uploads_idle_go_oldest_first_held_ones_stay(void **state)
{
	struct receiver r, q;
	struct sosie_upload_id a, b, c;
	struct sosie_part_state *parts;
	struct sosie_err err;
	uint32_t count;
	bool committed;
	(void)state;
	struct sosie_session *one = dial(&r), *two = dial(&q);
	begin(one, &a);
	begin(one, &b); /* the limit is 2, both are open in a living session */
	assert_int_equal(sosie_session_begin(two, "erp", SOSIE_UPLOAD_SEGMENT, &parent, 1, &c, &err),
	                 -SOSIE_EBUSY);
	assert_int_equal(sosie_session_join(two, "erp", &b, &committed, &parts, &count, &err),
	                 0); /* held by two as well */
	free(parts);
	send_part(one, &b, 0, "1", 1);
	send_part(two, &b, 1, "2", 1);
	assert_int_equal(hang_up(&r, one), 0);
	begin(two, &c); /* a is idle now */
	assert_int_equal(sosie_session_join(two, "erp", &a, &committed, &parts, &count, &err),
	                 -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_session_join(two, "erp", &b, &committed, &parts, &count, &err), 0);
	assert_int_equal(count, 2);
	free(parts);
	assert_int_equal(hang_up(&q, two), 0);
}

static void test_data_beyond_quota_is_refused_session_goes_on(void **state)
{
	struct receiver r;
	struct sosie_upload_id id;
	struct sosie_err err;
	size_t size = 8 << 20;
	uint8_t *data = calloc(1, size);
	(void)state;
	limits(3 << 20);
	struct sosie_session *s = dial(&r);
	begin(s, &id);
	assert_int_equal(sosie_session_part(s, "erp", &id, 0, &err), 0);
	int rc = sosie_session_data(s, data, size, &err), tried = 0;
	while (!rc && tried++ < 8)
		rc = sosie_session_data(s, data, size, &err);
	assert_int_equal(rc, -SOSIE_EQUOTA);
	assert_int_equal(sosie_session_ping(s, &err), 0);
	limits(0);
	begin(s, &id);
	send_part(s, &id, 0, data, size);
	assert_int_equal(hang_up(&r, s), 0);
	free(data);
}

static void test_key_revoked_is_refused_at_commit_and_open(void **state)
{
	struct receiver r;
	struct sosie_upload_id id;
	struct sosie_err err;
	struct sosie_session *t;
	bool keeper;
	(void)state;
	struct sosie_session *s = dial(&r);
	begin(s, &id);
	assert_int_equal(shell("rm acme/_keys/*"), 0);
	assert_int_equal(sosie_session_commit(s, "erp", &id, "{}", 2, &keeper, &err), -SOSIE_EAUTH);
	assert_int_equal(sosie_session_ping(s, &err), -SOSIE_EPEER);
	assert_int_equal(hang_up(&r, s), -SOSIE_EAUTH);
	memset(&r, 0, sizeof r);
	r.base.open = receiver_open;
	assert_int_equal(sosie_session_open(&r.base, sosie_clock_real(), "x", &t, &err), -SOSIE_EPEER);
	pthread_join(r.thread, NULL);
	assert_int_equal(r.rc, -SOSIE_EAUTH);
}

static void test_group_bad_name_never_leaves_the_source(void **state)
{
	struct receiver r;
	struct sosie_err err;
	char *text;
	size_t len;
	bool keeper;
	(void)state;
	struct sosie_session *s = dial(&r);
	assert_int_equal(sosie_session_head(s, "../x", &text, &len, &keeper, &err), -SOSIE_ENAME);
	assert_int_equal(sosie_session_ping(s, &err), 0);
	assert_int_equal(hang_up(&r, s), 0);
}

/* --- raw frames against the receiver, one thread, a clock that only a wait moves
 * ----------------------------------------- */
struct script {
	struct sosie_channel base;
	struct sosie_clock_virtual *clock;
	const uint8_t *bytes;
	size_t len, out_len;
	uint8_t out[4096];
};

static int script_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	struct script *s = (struct script *)ch;
	(void)err;
	assert_true(s->out_len + len <= sizeof s->out);
	memcpy(s->out + s->out_len, data, len);
	s->out_len += len;
	return 0;
}

static int script_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                       struct sosie_err *err)
{
	struct script *s = (struct script *)ch;
	(void)err;
	*got = size < s->len ? size : s->len;
	if (*got)
		memcpy(data, s->bytes, *got);
	else
		s->clock->now_ms += timeout_ms;
	s->bytes += *got;
	s->len -= *got;
	return 0;
}

static const struct sosie_channel_ops script_ops = {.send = script_send, .recv = script_recv};

static int serve_script(const void *bytes, size_t len, struct script *s, int64_t *took)
{
	struct sosie_clock_virtual clock;
	struct sosie_io *io;
	struct sosie_inbox *in;
	struct sosie_err err;
	sosie_clock_virtual_init(&clock, 1000, 1);
	*s = (struct script){.base.ops = &script_ops, .clock = &clock, .bytes = bytes, .len = len};
	struct sosie_serve_options o = {
	        .clock = &clock.clock, .software = "test", .hello_ms = 30000, .idle_ms = 300000};
	assert_int_equal(sosie_io_posix(&io, &err), 0);
	assert_int_equal(sosie_inbox_open(io, &clock.clock, root, "acme", KEY, &in, &err), 0);
	int rc = sosie_serve(&s->base, in, &o, &err);
	*took = clock.now_ms - 1000;
	sosie_inbox_close(in);
	sosie_io_free(io);
	return rc;
}

static const uint8_t hello[] = {16, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0,
                                1,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

static void test_serve_silence_ends_at_its_limit(void **state)
{
	struct script s;
	int64_t took;
	(void)state;
	assert_int_equal(serve_script(hello, 0, &s, &took), -SOSIE_ETIMEOUT);
	assert_in_range(took, 30000, 30001);
	assert_int_equal(serve_script(hello, 20, &s, &took), -SOSIE_ETIMEOUT); /* half a hello is none */
	assert_in_range(took, 30000, 30001);
	assert_int_equal(serve_script(hello, sizeof hello, &s, &took), -SOSIE_ETIMEOUT);
	assert_in_range(took, 300000, 300001);
}

static void test_serve_wrong_state_or_frame_ends_the_session(void **state)
{
	uint8_t bytes[64];
	struct script s;
	int64_t took;
	unsigned refused = 0;
	(void)state;
	for (unsigned type = 0; type < 30; type++) {
		memset(bytes, 0, sizeof bytes);
		memcpy(bytes, hello, sizeof hello);
		bytes[sizeof hello + 4] = (uint8_t)type;
		bytes[sizeof hello + 8] = 2;
		if (type == SOSIE_MSG_PING || type == SOSIE_MSG_BYE)
			continue;
		assert_int_equal(serve_script(bytes, sizeof hello + 12, &s, &took), -SOSIE_EPROTO);
		refused++;
	}
	assert_int_equal(refused, 28);
	memset(bytes, 255, sizeof bytes);
	assert_int_equal(serve_script(bytes, 12, &s, &took), -SOSIE_EPROTO);
	assert_int_equal(s.out[4], SOSIE_MSG_ERROR);
}

static void test_serve_bad_group_name_is_refused_session_goes_on(void **state)
{
	uint8_t bytes[128];
	static const uint8_t tail[] = {6, 0,   0,   0, 3, 0, 0, 0,  2, 0, 0, 0, 2, 0, 0,
	                               0, '.', '.', 0, 0, 0, 0, 22, 0, 0, 0, 3, 0, 0, 0};
	struct script s;
	int64_t took;
	(void)state;
	memcpy(bytes, hello, sizeof hello);
	memcpy(bytes + sizeof hello, tail, sizeof tail);
	assert_int_equal(serve_script(bytes, sizeof hello + sizeof tail, &s, &took), 0);
	assert_non_null(memmem(s.out, s.out_len, "name", 4));
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, make_store, drop_store)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        STORE_TEST(test_upload_whole_is_committed_and_keeper_is_woken),
	        STORE_TEST(test_packed_ranges_are_welcome_where_the_keeper_says_so),
	        STORE_TEST(test_outbox_statements_are_relayed),
	        STORE_TEST(test_join_after_cut_tells_durable_bytes),
	        STORE_TEST(test_uploads_idle_go_oldest_first_held_ones_stay),
	        STORE_TEST(test_data_beyond_quota_is_refused_session_goes_on),
	        STORE_TEST(test_key_revoked_is_refused_at_commit_and_open),
	        STORE_TEST(test_group_bad_name_never_leaves_the_source),
	        STORE_TEST(test_serve_silence_ends_at_its_limit),
	        STORE_TEST(test_serve_wrong_state_or_frame_ends_the_session),
	        STORE_TEST(test_serve_bad_group_name_is_refused_session_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
