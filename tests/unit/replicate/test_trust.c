/* SPDX-License-Identifier: MIT */
/*
 * Signatures from end to end in one process: what a source must sign, whose word it takes, and that what a
 * receiver can do between the two (relay, hold back, show an old word, change bytes) never passes for the
 * keeper's word.
 */
#include "sosie/audit.h"
#include "sosie/bytes.h"
#include "sosie/sign.h"
#include "tests/unit/replicate/harness.h"

#define SIGNER_MAX 3

struct keys {
	char source[120], other[120], standby[120]; /* private; with ".pub" the public half */
	struct sosie_signer *keeper;
};

static void make_key(struct harness *h, const char *name, char path[120])
{
	struct sosie_public key;

	snprintf(path, 120, "%s/%s", h->dir, name);
	must(sosie_keygen(path, name, &key, &h->err), &h->err);
}

static void read_public(struct harness *h, const char *path, char line[SOSIE_PUBLIC_LINE])
{
	char file[128], *text;
	size_t len;

	snprintf(file, sizeof(file), "%s.pub", path);
	must(sosie_io_read_file(h->io, file, SOSIE_PUBLIC_LINE - 1, &text, &len, &h->err), &h->err);
	memcpy(line, text, len);
	line[len] = '\0';
	free(text);
}

/* The store gets its key and is opened anew with it. */
static void arm_store(struct harness *h, struct keys *k)
{
	char line[SOSIE_PUBLIC_LINE], path[128];

	make_key(h, "standby", k->standby);
	read_public(h, k->standby, line);
	snprintf(path, sizeof(path), "%s/standby.pub", h->store_path);
	must(sosie_io_write_file(h->io, path, line, strlen(line), 0644, &h->err), &h->err);
	sosie_store_close(h->store);
	must(sosie_store_open(h->io, sosie_clock_real(), h->store_path, &h->store, &h->err), &h->err);
	must(sosie_signer_open(k->standby, &k->keeper, &h->err), &h->err);
	must(sosie_store_sign(h->store, k->keeper, &h->err), &h->err);
}

static void register_source(struct harness *h, const char *path)
{
	char line[SOSIE_PUBLIC_LINE];
	struct sosie_key_info info;

	read_public(h, path, line);
	must(sosie_key_add(h->store, TENANT, line, strlen(line), SOSIE_KEY_SIGNING, NULL, 0, &info, &h->err),
	     &h->err);
}

/* A new pool with this trust, as a process that starts. */
static void trust(struct harness *h, const char *signing, const char *standby)
{
	char file[128];

	if (h->r)
		close_replicator(h);
	else
		new_pool(h);
	if (standby)
		snprintf(file, sizeof(file), "%s.pub", standby);
	must(sosie_pool_trust(h->pool, signing, standby ? file : NULL, &h->err), &h->err);
	open_replicator(h);
}

static struct harness *armed(struct keys *k)
{
	struct harness *h = harness_new(1);

	memset(k, 0, sizeof(*k));
	add_volume(h, "a");
	set_size(h, 0, 1u << 20);
	scribble(h, 0, 0, 65536);
	make_key(h, "source", k->source);
	make_key(h, "other", k->other);
	arm_store(h, k);
	return h;
}

static void disarm(struct harness *h, struct keys *k)
{
	must(sosie_store_sign(h->store, NULL, &h->err), &h->err);
	sosie_signer_close(k->keeper);
	harness_free(h);
}

static void outbox_path(const struct harness *h, const char *name, char path[200])
{
	snprintf(path, 200, "%s/" TENANT "/_outbox/" GROUP "/%s", h->store_path, name);
}

static struct sosie_verify verify(struct harness *h, const struct sosie_signing_key *keys, unsigned count,
                                  const struct sosie_public *standby)
{
	struct sosie_verify v = {.source_keys = keys, .source_key_count = count, .standby = standby};
	struct sosie_group *g;

	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	must(sosie_group_verify(g, &v, &h->err), &h->err);
	sosie_group_close(g);
	return v;
}

static void test_trust_both_sides_sign_and_verify_tells(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	struct sosie_verify v;
	char path[200];

	(void)state;
	register_source(h, k.source);
	trust(h, k.source, k.standby);
	must(cycle(h), &h->err);
	scribble(h, 0, 4096, 4096);
	must(cycle(h), &h->err);
	assert_int_equal(h->result.point, 2);
	check_point(h, 2);
	v = verify(h, NULL, 0, NULL);
	assert_int_equal(v.damaged, 0);
	assert_int_equal(v.signed_points, 2);
	assert_int_equal(v.countersigned, 2);
	snprintf(path, sizeof(path), "%s/receipt", h->state_path);
	assert_true(sosie_io_exists(h->io, path));
	disarm(h, &k);
}

static void test_trust_unsigned_or_others_signature_is_refused(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);

	(void)state;
	trust(h, NULL, NULL);
	must(cycle(h), &h->err); /* no signing key is known: unsigned is taken */
	register_source(h, k.source);
	scribble(h, 0, 8192, 4096);
	assert_int_equal(cycle(h), -SOSIE_EREFUSED);
	assert_non_null(strstr(h->err.what, "not signed"));
	trust(h, k.other, NULL);
	assert_int_equal(cycle(h), -SOSIE_EREFUSED);
	trust(h, k.source, NULL);
	must(cycle(h), &h->err);
	check_point(h, 2);
	disarm(h, &k);
}

static void test_trust_another_standbys_key_is_not_believed(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);

	(void)state;
	trust(h, NULL, k.standby);
	must(cycle(h), &h->err);
	trust(h, NULL, k.other);
	scribble(h, 0, 8192, 4096);
	assert_int_equal(cycle(h), -SOSIE_EAUTH);
	trust(h, NULL, k.standby);
	must(cycle(h), &h->err);
	disarm(h, &k);
}

/* Each byte of the head statement that a receiver could change: none passes. */
static void test_trust_changed_head_statement_is_not_believed(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	char path[200], *text;
	size_t len;
	unsigned tried = 0;

	(void)state;
	trust(h, NULL, k.standby);
	must(cycle(h), &h->err);
	outbox_path(h, "head", path);
	must(sosie_io_read_file(h->io, path, SOSIE_STATEMENT_MAX, &text, &len, &h->err), &h->err);
	for (size_t i = 0; i < len; i += i < 40 ? 1 : 17) {
		char old = text[i];

		text[i] = (char)(old ^ 1);
		must(sosie_io_write_file(h->io, path, text, len, 0640, &h->err), &h->err);
		text[i] = old;
		scribble(h, 0, 16384, 4096);
		assert_true(cycle(h) != 0);
		tried++;
	}
	assert_true(tried > 40);
	must(sosie_io_write_file(h->io, path, text, sosie_signed_text(text, len), 0640, &h->err), &h->err);
	assert_int_equal(cycle(h), -SOSIE_EAUTH);
	must(sosie_io_write_file(h->io, path, text, len, 0640, &h->err), &h->err);
	must(cycle(h), &h->err);
	free(text);
	disarm(h, &k);
}

struct replay {
	struct harness *h;
	char *text;
	size_t len;
};

/* The keeper's signed word about another upload, under this one's name. */
static int is_verdict(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct replay *r = arg;
	char path[200];

	(void)kind;
	if (!strstr(name, ".verdict"))
		return 0;
	outbox_path(r->h, name, path);
	free(r->text);
	must(sosie_io_read_file(r->h->io, path, SOSIE_STATEMENT_MAX, &r->text, &r->len, &r->h->err),
	     &r->h->err);
	return 1;
}

static void test_trust_replayed_verdict_is_not_believed(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	struct replay r = {.h = h};
	char dir[200], inbox[200], path[260];

	(void)state;
	trust(h, NULL, k.standby);
	must(cycle(h), &h->err);
	outbox_path(h, "", dir);
	assert_true(sosie_io_list(h->io, dir, is_verdict, &r, &h->err) >= 0);
	assert_non_null(r.text);
	/* A committed upload that no keeper has seen, and an old "accepted" for it. */
	h->keeper = false;
	scribble(h, 0, 8192, 4096);
	assert_int_equal(cycle(h), -SOSIE_ENOKEEPER);
	snprintf(inbox, sizeof(inbox), "%s/" TENANT "/_inbox/" GROUP, h->store_path);
	struct sosie_replicator_status status;
	sosie_replicator_status(h->r, &status);
	assert_true(status.pending);
	/* Every file of the inbox names the upload: its first 32 digits. */
	char command[600];
	snprintf(command, sizeof(command), "basename \"$(ls %s/*.manifest)\" .manifest >%s/id", inbox,
	         h->dir);
	assert_int_equal(system(command), 0);
	char *id;
	size_t id_len;
	snprintf(path, sizeof(path), "%s/id", h->dir);
	must(sosie_io_read_file(h->io, path, 64, &id, &id_len, &h->err), &h->err);
	assert_true(id_len >= 32);
	id[32] = '\0';
	snprintf(path, sizeof(path), "%s%s.verdict", dir, id);
	must(sosie_io_write_file(h->io, path, r.text, r.len, 0640, &h->err), &h->err);
	assert_int_equal(cycle(h), -SOSIE_EPROTO);
	assert_non_null(strstr(h->err.what, "another upload"));
	sosie_replicator_status(h->r, &status);
	assert_true(status.pending);
	assert_int_equal(status.point, 1);
	must(sosie_io_unlink(h->io, path, &h->err), &h->err);
	h->keeper = true;
	must(cycle(h), &h->err);
	check_point(h, 2);
	free(id);
	free(r.text);
	disarm(h, &k);
}

/* A receiver strips the signature off a committed manifest, and so has the keeper sign a refusal of it. */
static void test_trust_refusal_of_stripped_bytes_is_not_believed(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	char command[700], dir[200];

	(void)state;
	register_source(h, k.source);
	trust(h, k.source, k.standby);
	must(cycle(h), &h->err);
	h->keeper = false;
	scribble(h, 0, 8192, 4096);
	assert_int_equal(cycle(h), -SOSIE_ENOKEEPER);
	snprintf(dir, sizeof(dir), "%s/" TENANT "/_inbox/" GROUP, h->store_path);
	snprintf(command, sizeof(command),
	         "m=$(ls %s/*.manifest) && cp $m %s/kept && printf %%s \"$(head -n 1 %s/kept)\" >$m", dir,
	         h->dir, h->dir);
	assert_int_equal(system(command), 0);
	h->keeper = true;
	assert_int_equal(cycle(h), -SOSIE_EPROTO);
	assert_int_equal(h->refused, 1);
	assert_non_null(strstr(h->err.what, "another upload"));
	disarm(h, &k);
}

/* A key that is revoked between a point and its verdict makes no refusal of the point. */
static void test_trust_repeat_is_accepted_though_its_key_is_revoked(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	char line[SOSIE_PUBLIC_LINE], command[700], dir[200];
	struct sosie_key *list;
	unsigned count;

	(void)state;
	register_source(h, k.source);
	trust(h, k.source, k.standby);
	must(cycle(h), &h->err);
	h->keeper = false;
	scribble(h, 0, 8192, 4096);
	assert_int_equal(cycle(h), -SOSIE_ENOKEEPER);
	/* The keeper ends between chain and outbox: the upload lies there still when the next one looks. */
	snprintf(dir, sizeof(dir), "%s/" TENANT "/_inbox/" GROUP, h->store_path);
	snprintf(command, sizeof(command), "cp -a %s %s/inbox", dir, h->dir);
	assert_int_equal(system(command), 0);
	keep(h);
	assert_int_equal(h->accepted, 2);
	snprintf(command, sizeof(command),
	         "cp -a %s/inbox/. %s/ && rm -f %s/" TENANT "/_outbox/" GROUP "/*.verdict", h->dir, dir,
	         h->store_path);
	assert_int_equal(system(command), 0);
	read_public(h, k.source, line);
	must(sosie_keys(h->store, TENANT, &list, &count, &h->err), &h->err);
	for (unsigned i = 0; i < count; i++)
		if (list[i].use == SOSIE_KEY_SIGNING)
			must(sosie_key_revoke(h->store, TENANT, list[i].info.id, NULL, &h->err), &h->err);
	free(list);
	keep(h);
	assert_int_equal(h->refused, 0);
	h->keeper = true;
	(void)cycle(h);
	struct sosie_replicator_status status;
	sosie_replicator_status(h->r, &status);
	assert_int_equal(status.point, 2);
	disarm(h, &k);
}

/* Without a registered key a signature, or rubbish in its place, is not taken: verify could never say what it
 * is worth. */
static void test_trust_signature_of_no_registered_key_is_refused(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);

	(void)state;
	trust(h, k.source, k.standby);
	assert_int_equal(cycle(h), -SOSIE_EREFUSED);
	assert_non_null(strstr(h->err.what, "has no signing key"));
	register_source(h, k.source);
	must(cycle(h), &h->err);
	disarm(h, &k);
}

/* When it cannot be told who may sign, an upload waits: nothing is refused for our own damage. */
static void test_trust_damaged_audit_log_refuses_nothing(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	struct sosie_accept_result result;
	char path[200], *text;
	size_t len;
	struct sosie_err err;

	(void)state;
	register_source(h, k.source);
	trust(h, k.source, k.standby);
	must(cycle(h), &h->err);
	h->keeper = false;
	scribble(h, 0, 8192, 4096);
	assert_int_equal(cycle(h), -SOSIE_ENOKEEPER);
	snprintf(path, sizeof(path), "%s/" TENANT "/_audit/000001.audit", h->store_path);
	must(sosie_io_read_file(h->io, path, 1u << 20, &text, &len, &h->err), &h->err);
	text[70] ^= 1;
	must(sosie_io_write_file(h->io, path, text, len, 0600, &h->err), &h->err);
	sosie_store_close(h->store);
	must(sosie_store_open(h->io, sosie_clock_real(), h->store_path, &h->store, &h->err), &h->err);
	must(sosie_store_sign(h->store, k.keeper, &h->err), &h->err);
	assert_true(sosie_keeper_accept(h->store, TENANT, GROUP, &result, &err) < 0);
	assert_int_equal(result.refused, 0);
	text[70] ^= 1;
	must(sosie_io_write_file(h->io, path, text, len, 0600, &h->err), &h->err);
	free(text);
	h->keeper = true;
	must(cycle(h), &h->err);
	check_point(h, 2);
	disarm(h, &k);
}

static void test_trust_verify_from_public_keys_alone(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	struct sosie_signing_key source = {.until = UINT64_MAX};
	struct sosie_public standby, other;
	struct sosie_signer *s;
	struct sosie_verify v;

	(void)state;
	register_source(h, k.source);
	trust(h, k.source, k.standby);
	must(cycle(h), &h->err);
	must(sosie_signer_open(k.source, &s, &h->err), &h->err);
	memcpy(source.key, sosie_signer_public(s)->b, sizeof(source.key));
	sosie_signer_close(s);
	standby = *sosie_signer_public(k.keeper);
	v = verify(h, &source, 1, &standby);
	assert_int_equal(v.damaged, 0);
	must(sosie_signer_open(k.other, &s, &h->err), &h->err);
	other = *sosie_signer_public(s);
	sosie_signer_close(s);
	v = verify(h, &source, 1, &other);
	assert_int_equal(v.damaged, 1);
	source.key[3] ^= 1;
	v = verify(h, &source, 1, &standby);
	assert_int_equal(v.damaged, 1);
	source.key[3] ^= 1;
	source.until = 0; /* revoked before point 1 */
	v = verify(h, &source, 1, &standby);
	assert_int_equal(v.damaged, 1);
	disarm(h, &k);
}

static void test_trust_exported_head_shows_history(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	struct sosie_exported_head head;
	struct sosie_group *g;
	char *text;
	size_t len;

	(void)state;
	trust(h, NULL, k.standby);
	must(cycle(h), &h->err);
	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	must(sosie_group_export_head(g, &text, &len, &h->err), &h->err);
	sosie_group_close(g);
	scribble(h, 0, 8192, 4096);
	must(cycle(h), &h->err);
	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	must(sosie_group_check_head(g, text, len, NULL, &head, &h->err), &h->err);
	assert_int_equal(head.point, 1);
	assert_int_equal(head.entries, 1);
	/* Another chain of the same group: its first entry is not the one that was exported. */
	for (size_t i = 0; i < len; i++) {
		struct sosie_exported_head ignored;

		text[i] ^= 1;
		assert_true(sosie_group_check_head(g, text, len, NULL, &ignored, NULL) != 0);
		text[i] ^= 1;
	}
	sosie_group_close(g);
	free(text);
	disarm(h, &k);
}

static void test_trust_same_counts_only_when_signed(void **state)
{
	struct keys k;
	struct harness *h = armed(&k);
	struct sosie_group_status *status = calloc(1, sizeof(*status));
	struct sosie_same one = {.mono_ms = 0};
	struct sosie_group *g;
	struct sosie_head *head = calloc(1, sizeof(*head));
	const char *signing[SIGNER_MAX] = {NULL, k.other, k.source};

	(void)state;
	assert_non_null(status);
	assert_non_null(head);
	register_source(h, k.source);
	trust(h, k.source, k.standby);
	must(cycle(h), &h->err);
	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	sosie_group_head(g, head);
	sosie_group_close(g);
	one.digest = head->digest;
	one.point = head->point;
	must(sosie_name_set(&one.group, SOSIE_NAME_GROUP, GROUP, &h->err), &h->err);
	for (unsigned i = 0; i < SIGNER_MAX; i++) {
		trust(h, signing[i], NULL);
		one.mono_ms = sosie_mono_ms(&h->clock.clock);
		must(sosie_pool_same(h->pool, TENANT, &one, 1, &h->err), &h->err);
		must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
		must(sosie_group_status(g, status, &h->err), &h->err);
		sosie_group_close(g);
		assert_int_equal(status->same_ms > 0, signing[i] == k.source);
	}
	free(status);
	free(head);
	disarm(h, &k);
}

/* The key is for another group only, since: who lacks it may still not speak for this one. */
static void test_trust_unsigned_same_does_not_count_after_the_key_is_narrowed(void **state)
{
	static const struct sosie_name another = {"another"};
	struct keys k;
	struct harness *h = armed(&k);
	struct sosie_group_status *status = calloc(1, sizeof(*status));
	struct sosie_same one = {.mono_ms = 0};
	struct sosie_group *g;
	struct sosie_head *head = calloc(1, sizeof(*head));
	struct sosie_signer *s;
	struct sosie_key_info info;
	char line[SOSIE_PUBLIC_LINE];

	(void)state;
	assert_non_null(status);
	assert_non_null(head);
	register_source(h, k.source);
	trust(h, k.source, k.standby);
	must(cycle(h), &h->err);
	must(sosie_signer_open(k.source, &s, &h->err), &h->err);
	sosie_public_line(sosie_signer_public(s), "source", line);
	must(sosie_public_id(sosie_signer_public(s), info.id, &h->err), &h->err);
	must(sosie_key_revoke(h->store, TENANT, info.id, NULL, &h->err), &h->err);
	must(sosie_key_add(h->store, TENANT, line, strlen(line), SOSIE_KEY_SIGNING, &another, 1, &info,
	                   &h->err),
	     &h->err);
	for (unsigned i = 0; i < 2; i++) {
		trust(h, i ? k.source : NULL, NULL);
		must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
		sosie_group_head(g, head);
		one.digest = head->digest;
		one.point = head->point;
		one.mono_ms = sosie_mono_ms(&h->clock.clock);
		must(sosie_name_set(&one.group, SOSIE_NAME_GROUP, GROUP, &h->err), &h->err);
		must(sosie_pool_same(h->pool, TENANT, &one, 1, &h->err), &h->err);
		must(sosie_group_status(g, status, &h->err), &h->err);
		sosie_group_close(g);
		assert_int_equal(status->same_ms, 0);
	}
	sosie_signer_close(s);
	free(status);
	free(head);
	disarm(h, &k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_trust_both_sides_sign_and_verify_tells),
	        cmocka_unit_test(test_trust_unsigned_or_others_signature_is_refused),
	        cmocka_unit_test(test_trust_another_standbys_key_is_not_believed),
	        cmocka_unit_test(test_trust_changed_head_statement_is_not_believed),
	        cmocka_unit_test(test_trust_replayed_verdict_is_not_believed),
	        cmocka_unit_test(test_trust_refusal_of_stripped_bytes_is_not_believed),
	        cmocka_unit_test(test_trust_repeat_is_accepted_though_its_key_is_revoked),
	        cmocka_unit_test(test_trust_signature_of_no_registered_key_is_refused),
	        cmocka_unit_test(test_trust_damaged_audit_log_refuses_nothing),
	        cmocka_unit_test(test_trust_verify_from_public_keys_alone),
	        cmocka_unit_test(test_trust_exported_head_shows_history),
	        cmocka_unit_test(test_trust_same_counts_only_when_signed),
	        cmocka_unit_test(test_trust_unsigned_same_does_not_count_after_the_key_is_narrowed),
	};

	rng_state = 4;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
