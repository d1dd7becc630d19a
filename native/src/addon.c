/* What TypeScript may call: arguments are converted here and nothing is decided. See src/plane/native/addon.ts. */
#include "open.h"
#include "option.h"
#include "plane.h"
#include "records.h"

#include <node_api.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ARGUMENTS = 6 };

/* What is used of libuv, which is part of Node and keeps these since version 1.19. Its headers are not at hand
 * everywhere, so handles are opaque. A thread-safe function of Node-API would do the same under a lock: the main thread,
 * woken at once, then waits for the very thread that has woken it. */
enum { UV_ASYNC = 1 };
struct uv_loop_s;
extern size_t uv_handle_size(int type);
extern void uv_handle_set_data(void *handle, void *data);
extern void *uv_handle_get_data(const void *handle);
extern int uv_async_init(struct uv_loop_s *loop, void *async, void (*called)(void *async));
extern int uv_async_send(void *async);
extern void uv_ref(void *handle);
extern void uv_unref(void *handle);
extern void uv_close(void *handle, void (*closed)(void *handle));

/* A plane as JavaScript holds it. */
struct handle {
	struct plane *plane; /* NULL when it has stopped */
	napi_env env;
	napi_ref hear;       /* the function to call */
	napi_async_context context;
	napi_async_cleanup_hook_handle cleanup;
	void *async;         /* of libuv; NULL when it is closed */
	int listenings;
	int dropped;         /* JavaScript has let go of it */
};

static napi_value undefined(napi_env env)
{
	napi_value value = NULL;

	napi_get_undefined(env, &value);
	return value;
}

/* Throws an Error with the fields that Node's own have: code and syscall. */
static napi_value fault(napi_env env, int error, const char *call)
{
	napi_value code, message, value, result;
	char text[128];

	snprintf(text, sizeof(text), "%s: %s", call, strerror(-error));
	napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
	napi_create_error(env, NULL, message, &result);
	napi_create_int32(env, error, &code);
	napi_set_named_property(env, result, "errno", code);
	napi_create_string_utf8(env, call, NAPI_AUTO_LENGTH, &value);
	napi_set_named_property(env, result, "syscall", value);
	napi_throw(env, result);
	return NULL;
}

static napi_value misuse(napi_env env, const char *expected)
{
	napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", expected);
	return NULL;
}

/* The arguments of a call; fewer are undefined. The first is a plane for all but `start`. */
static struct handle *arguments(napi_env env, napi_callback_info info, napi_value *values)
{
	size_t count = ARGUMENTS;
	void *data = NULL;
	napi_valuetype type;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) != napi_ok)
		return NULL;
	if (napi_typeof(env, values[0], &type) != napi_ok || type != napi_external)
		return NULL;
	napi_get_value_external(env, values[0], &data);
	return ((struct handle *)data)->plane ? data : NULL;
}

static int number(napi_env env, napi_value value, int64_t *out)
{
	return napi_get_value_int64(env, value, out) == napi_ok;
}

/* A property that is a whole number; 0 when it is missing. */
static int64_t property(napi_env env, napi_value object, const char *name)
{
	napi_value value;
	int64_t result = 0;

	if (napi_get_named_property(env, object, name, &value) == napi_ok)
		number(env, value, &result);
	return result;
}

/* Bytes of a typed array; NULL for anything else. */
static uint8_t *bytes_of(napi_env env, napi_value value, size_t *length)
{
	napi_typedarray_type type;
	napi_value buffer;
	size_t items, offset;
	void *data = NULL;
	bool is = false;

	if (napi_is_typedarray(env, value, &is) != napi_ok || !is)
		return NULL;
	if (napi_get_typedarray_info(env, value, &type, &items, &data, &buffer, &offset) != napi_ok)
		return NULL;
	*length = items * (type == napi_float64_array ? 8 : type == napi_uint32_array ? 4 : 1);
	return data;
}

/* { family, port, bytes, scope } of an address, where a path is FAMILY_UNIX. */
static int address_property(napi_env env, napi_value object, struct address *address)
{
	uint32_t family = property(env, object, "family");
	napi_value value;
	size_t length = 0;
	uint8_t *bytes;
	int error;

	if (napi_get_named_property(env, object, "bytes", &value) != napi_ok)
		return -EINVAL;
	bytes = bytes_of(env, value, &length);
	if (!bytes)
		return -EINVAL;
	if (family == FAMILY_UNIX)
		return address_of_path(address, bytes, length);
	if (length != (family == FAMILY_IPV4 ? 4 : 16))
		return -EINVAL;
	error = address_of_ip(address, family, bytes, property(env, object, "port"));
	if (!error && family == FAMILY_IPV6)
		address->in6.sin6_scope_id = property(env, object, "scope");
	return error;
}

/* --- the plane ---------------------------------------------------------------------------------------------- */

/* Runs on the relay threads. */
static void wake(void *context)
{
	struct handle *handle = context;

	uv_async_send(handle->async);
}

/* Runs on the main thread after a wake. */
static void woken(void *async)
{
	struct handle *handle = uv_handle_get_data(async);
	napi_env env = handle->env;
	napi_handle_scope scope;
	napi_value hear, global, error;

	if (!handle->plane || napi_open_handle_scope(env, &scope) != napi_ok)
		return;
	napi_get_reference_value(env, handle->hear, &hear);
	napi_get_global(env, &global);
	if (napi_make_callback(env, handle->context, global, hear, 0, NULL, NULL) == napi_pending_exception &&
	    napi_get_and_clear_last_exception(env, &error) == napi_ok)
		napi_fatal_exception(env, error);
	napi_close_handle_scope(env, scope);
}

static void free_if_done(struct handle *handle)
{
	if (handle->dropped && !handle->async)
		free(handle);
}

static void closed(void *async)
{
	struct handle *handle = uv_handle_get_data(async);

	free(async);
	handle->async = NULL;
	/* Only now may the environment go. */
	napi_remove_async_cleanup_hook(handle->cleanup);
	free_if_done(handle);
}

static void stop_plane(struct handle *handle)
{
	if (!handle->plane)
		return;
	plane_stop(handle->plane);
	handle->plane = NULL;
	napi_delete_reference(handle->env, handle->hear);
	napi_async_destroy(handle->env, handle->context);
	uv_close(handle->async, closed);
}

/* The environment ends: a worker is terminated, or the process exits. */
static void clean_up(napi_async_cleanup_hook_handle hook, void *data)
{
	(void)hook;
	stop_plane(data);
}

static void drop_handle(napi_env env, void *data, void *hint)
{
	struct handle *handle = data;

	(void)env;
	(void)hint;
	handle->dropped = 1;
	free_if_done(handle);
}

/* The async handle, the function and the hook. Returns 0 or -errno, nothing left then. */
static int prepare_waking(napi_env env, struct handle *handle, napi_value hear)
{
	struct uv_loop_s *loop;
	napi_value name;

	handle->async = calloc(1, uv_handle_size(UV_ASYNC));
	if (!handle->async)
		return -ENOMEM;
	if (napi_get_uv_event_loop(env, &loop) != napi_ok || uv_async_init(loop, handle->async, woken) != 0) {
		free(handle->async);
		return -EIO;
	}
	uv_handle_set_data(handle->async, handle);
	/* Only an open listener keeps the process. */
	uv_unref(handle->async);
	napi_create_string_utf8(env, "fairlead", NAPI_AUTO_LENGTH, &name);
	napi_async_init(env, NULL, name, &handle->context);
	napi_create_reference(env, hear, 1, &handle->hear);
	napi_add_async_cleanup_hook(env, clean_up, handle, &handle->cleanup);
	return 0;
}

/* start(threads, memory, ringBytes, ceiling, wake): handle */
static napi_value start(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS], result;
	size_t count = ARGUMENTS, length = 0;
	int64_t threads, ring, ceiling;
	napi_valuetype type;
	struct handle *handle;
	uint8_t *memory;
	int error;

	napi_get_cb_info(env, info, &count, values, NULL, NULL);
	memory = bytes_of(env, values[1], &length);
	if (!number(env, values[0], &threads) || !number(env, values[2], &ring) || !number(env, values[3], &ceiling))
		return misuse(env, "expected numbers of threads, bytes and descriptors");
	if (threads < 1 || threads > LISTENING_THREADS || !memory || (int64_t)length < 64 + 2 * threads * ring)
		return misuse(env, "expected 1 to 64 threads and memory for their rings");
	if (napi_typeof(env, values[4], &type) != napi_ok || type != napi_function)
		return misuse(env, "expected a function to call");
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return fault(env, -ENOMEM, "start");
	handle->env = env;
	error = prepare_waking(env, handle, values[4]);
	if (error) {
		free(handle);
		return fault(env, error, "start");
	}
	error = plane_start(&handle->plane, threads, memory, ring, ceiling, wake, handle);
	if (error) {
		handle->dropped = 1;
		napi_delete_reference(env, handle->hear);
		napi_async_destroy(env, handle->context);
		uv_close(handle->async, closed);
		return fault(env, error, "start");
	}
	napi_create_external(env, handle, drop_handle, NULL, &result);
	return result;
}

/* stop(plane): the threads and all flows end without a word */
static napi_value stop(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	struct handle *handle = arguments(env, info, values);

	if (handle)
		stop_plane(handle);
	return undefined(env);
}

/* rouse(plane, thread) */
static napi_value rouse(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	struct handle *handle = arguments(env, info, values);
	int64_t thread;

	if (!handle || !number(env, values[1], &thread) || thread < 0 || thread >= handle->plane->threads)
		return misuse(env, "expected a plane and one of its threads");
	plane_rouse(handle->plane, thread);
	return undefined(env);
}

/* --- listenings --------------------------------------------------------------------------------------------- */

/* A copy of the words of a Uint32Array; nothing of what is none. */
static int read_turns(napi_env env, napi_value object, const char *words, const char *first, struct turns *turns)
{
	napi_value value;
	size_t length = 0;
	uint8_t *bytes;

	napi_get_named_property(env, object, words, &value);
	bytes = bytes_of(env, value, &length);
	if (!bytes || length < sizeof(uint32_t))
		return -EINVAL;
	turns->words = malloc(length);
	if (!turns->words)
		return -ENOMEM;
	memcpy(turns->words, bytes, length);
	turns->count = length / sizeof(uint32_t);
	turns->first_allows = property(env, object, first);
	return 0;
}

/* { ipv4, ipv4Allows, ipv6, ipv6Allows }; undefined is everybody. */
static int read_access(napi_env env, napi_value spec, struct access **access)
{
	napi_valuetype type;
	napi_value value;
	int error;

	napi_get_named_property(env, spec, "access", &value);
	if (napi_typeof(env, value, &type) != napi_ok || type != napi_object)
		return 0;
	*access = calloc(1, sizeof(**access));
	if (!*access)
		return -ENOMEM;
	error = read_turns(env, value, "ipv4", "ipv4Allows", &(*access)->ipv4);
	if (!error)
		error = read_turns(env, value, "ipv6", "ipv6Allows", &(*access)->ipv6);
	(*access)->ipv6.count /= 4;
	if (!error)
		return 0;
	access_free(*access);
	*access = NULL;
	return error;
}

/* listening(plane, spec): id */
static napi_value add_listening(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS], source, result;
	struct handle *handle = arguments(env, info, values);
	struct listening *listening;
	napi_valuetype type;
	struct spec spec;
	int error = 0;

	if (!handle)
		return misuse(env, "expected a plane");
	spec = (struct spec){
		.client_idle_ms = property(env, values[1], "clientIdleMs"),
		.backend_idle_ms = property(env, values[1], "backendIdleMs"),
		.half_close_ms = property(env, values[1], "halfCloseMs"),
		.undecided_ms = property(env, values[1], "undecidedMs"),
		.report = property(env, values[1], "report"),
		.measure = property(env, values[1], "measure"),
		.keep_alive_s = property(env, values[1], "keepAliveSeconds"),
		.user_timeout_ms = property(env, values[1], "userTimeoutMs"),
		.mark = property(env, values[1], "mark"),
		.transparent = property(env, values[1], "transparent"),
		.datagrams = {
			.on = property(env, values[1], "datagrams"),
			.by_ip = property(env, values[1], "byIp"),
			.max_requests = property(env, values[1], "maxRequests"),
			.max_responses = property(env, values[1], "maxResponses"),
			.max_sessions = property(env, values[1], "maxSessions"),
			.tell_unreachable = property(env, values[1], "tellUnreachable"),
			.glimpses = property(env, values[1], "glimpses"),
		},
	};
	napi_get_named_property(env, values[1], "source", &source);
	napi_typeof(env, source, &type);
	if (type == napi_object)
		error = address_property(env, source, &spec.source);
	if (!error)
		error = read_access(env, values[1], &spec.access);
	if (error)
		return fault(env, error, "listening");
	listening = plane_listening(handle->plane, &spec);
	if (!listening) {
		access_free(spec.access);
		return fault(env, -ENOMEM, "listening");
	}
	if (handle->listenings++ == 0)
		uv_ref(handle->async);
	napi_create_uint32(env, listening->id, &result);
	return result;
}

static struct listening *find(struct handle *handle, napi_env env, napi_value value)
{
	int64_t id;

	return number(env, value, &id) && id >= 0 ? plane_find(handle->plane, id) : NULL;
}

/* forget(plane, id): every thread has said that it stopped */
static napi_value forget(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	struct handle *handle = arguments(env, info, values);
	struct listening *listening = handle ? find(handle, env, values[1]) : NULL;

	if (!listening)
		return misuse(env, "expected a plane and a listening of it");
	plane_forget(handle->plane, listening);
	if (--handle->listenings == 0)
		uv_unref(handle->async);
	return undefined(env);
}

/* rows(plane, id, thread, block, counters): Float64Array of eight numbers a row, kept by the caller until forget */
static napi_value give_rows(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	struct handle *handle = arguments(env, info, values);
	struct listening *listening = handle ? find(handle, env, values[1]) : NULL;
	int64_t thread, block;
	size_t length = 0;
	uint8_t *rows = bytes_of(env, values[4], &length);

	if (!listening || !number(env, values[2], &thread) || !number(env, values[3], &block))
		return misuse(env, "expected a plane, a listening, a thread and a block");
	if (thread < 0 || thread >= handle->plane->threads || block < 0 || block >= LISTENING_BLOCKS)
		return misuse(env, "expected a thread and a block that exist");
	if (!rows || length != sizeof(struct row) * ((size_t)LISTENING_FIRST_BLOCK << block))
		return misuse(env, "expected room for all rows of the block");
	atomic_store(&listening->shares[thread].rows[block], (struct row *)rows);
	return undefined(env);
}

/* drops(plane, id, drops): what the threads have dropped, into a Float64Array as in struct drops */
static napi_value add_drops(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	struct handle *handle = arguments(env, info, values);
	struct listening *listening = handle ? find(handle, env, values[1]) : NULL;
	size_t length = 0;
	double *sums = (double *)bytes_of(env, values[2], &length);

	if (!listening || !sums || length != sizeof(struct drops))
		return misuse(env, "expected a plane, a listening and room for its drops");
	for (int i = 0; i < handle->plane->threads; i++) {
		double *drops = (double *)&listening->shares[i].drops;

		for (size_t n = 0; n < sizeof(struct drops) / sizeof(double); n++) {
			double count;

			__atomic_load(&drops[n], &count, __ATOMIC_RELAXED);
			sums[n] += count;
		}
	}
	return undefined(env);
}

/* limitSessions(plane, id, most): of each thread, from the next session on */
static napi_value limit_sessions(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	struct handle *handle = arguments(env, info, values);
	struct listening *listening = handle ? find(handle, env, values[1]) : NULL;
	int64_t most;

	if (!listening || !number(env, values[2], &most) || most < 1 || most > UINT32_MAX)
		return misuse(env, "expected a plane, a listening and a number of sessions");
	__atomic_store_n(&listening->spec.datagrams.max_sessions, (uint32_t)most, __ATOMIC_RELAXED);
	return undefined(env);
}

/* --- sockets ------------------------------------------------------------------------------------------------ */

static napi_value opened(napi_env env, const int *fds, int count, const struct address *address)
{
	napi_value result, list, port, value;
	uint8_t ip[16];
	uint16_t bound;

	address_parts(address, ip, &bound);
	napi_create_object(env, &result);
	napi_create_array_with_length(env, count, &list);
	for (int i = 0; i < count; i++) {
		napi_create_int32(env, fds[i], &value);
		napi_set_element(env, list, i, value);
	}
	napi_create_uint32(env, bound, &port);
	napi_set_named_property(env, result, "fds", list);
	napi_set_named_property(env, result, "port", port);
	return result;
}

/* open(address, count, options): { fds, port } */
static napi_value open_sockets(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	size_t given = ARGUMENTS;
	struct open_options options;
	struct address address;
	int fds[LISTENING_THREADS], error;
	const char *call = "open";
	int64_t count;

	napi_get_cb_info(env, info, &given, values, NULL, NULL);
	if (!number(env, values[1], &count) || count < 1 || count > LISTENING_THREADS)
		return misuse(env, "expected 1 to 64 sockets");
	options = (struct open_options){
		.backlog = property(env, values[2], "backlog"),
		.keep_alive_s = property(env, values[2], "keepAliveSeconds"),
		.user_timeout_ms = property(env, values[2], "userTimeoutMs"),
		.transparent = property(env, values[2], "transparent"),
		.freebind = property(env, values[2], "freebind"),
		.fast_open = property(env, values[2], "fastOpen"),
		.defer_accept_s = property(env, values[2], "deferAcceptSeconds"),
		.datagrams = property(env, values[2], "datagrams"),
		.receive_buffer = property(env, values[2], "receiveBuffer"),
		.by_address = property(env, values[2], "byAddress"),
	};
	error = address_property(env, values[0], &address);
	if (!error)
		error = open_listeners(&address, count, &options, fds, &call);
	return error ? fault(env, error, call) : opened(env, fds, count, &address);
}

/* probe(options): the option of { mark, transparent } that this process may not set; undefined when it may */
static napi_value probe(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS], result;
	size_t given = ARGUMENTS;
	const char *refused = NULL;
	int error;

	napi_get_cb_info(env, info, &given, values, NULL, NULL);
	error = open_probe(property(env, values[0], "mark"), property(env, values[0], "transparent"), &refused);
	if (!error)
		return undefined(env);
	if (!refused || error != -EPERM)
		return fault(env, error, refused ? "setsockopt" : "socket");
	napi_create_string_utf8(env, refused, NAPI_AUTO_LENGTH, &result);
	return result;
}

/* close(fd): of a socket that no thread was given */
static napi_value close_socket(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS];
	size_t given = ARGUMENTS;
	int64_t fd;

	napi_get_cb_info(env, info, &given, values, NULL, NULL);
	if (!number(env, values[0], &fd))
		return misuse(env, "expected a descriptor");
	close(fd);
	return undefined(env);
}

/* dropped(fd): datagrams the kernel has dropped for want of a reader (SO_MEMINFO) */
static napi_value dropped(napi_env env, napi_callback_info info)
{
	napi_value values[ARGUMENTS], result;
	size_t given = ARGUMENTS;
	int64_t fd;

	napi_get_cb_info(env, info, &given, values, NULL, NULL);
	if (!number(env, values[0], &fd))
		return misuse(env, "expected a descriptor");
	napi_create_uint32(env, option_drops(fd), &result);
	return result;
}

/* The name and number of every reason the plane gives by itself, for TypeScript to compare with its own. */
static napi_value reasons(napi_env env)
{
	static const struct {
		const char *name;
		int number;
	} all[] = {
		{ "bad-header", REASON_BAD_HEADER },
		{ "header-timeout", REASON_HEADER_TIMEOUT },
		{ "undecided", REASON_UNDECIDED },
		{ "client-closed", REASON_CLIENT_CLOSED },
		{ "backend-closed", REASON_BACKEND_CLOSED },
		{ "client-reset", REASON_CLIENT_RESET },
		{ "backend-reset", REASON_BACKEND_RESET },
		{ "client-idle", REASON_CLIENT_IDLE },
		{ "backend-idle", REASON_BACKEND_IDLE },
		{ "half-close-timeout", REASON_HALF_CLOSE_TIMEOUT },
		{ "max-requests", REASON_MAX_REQUESTS },
		{ "max-responses", REASON_MAX_RESPONSES },
		{ "evicted", REASON_EVICTED },
		{ "plane-failed", REASON_PLANE_FAILED },
	};
	napi_value object, value;

	napi_create_object(env, &object);
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		napi_create_int32(env, all[i].number, &value);
		napi_set_named_property(env, object, all[i].name, value);
	}
	return object;
}

NAPI_MODULE_INIT()
{
	static const struct {
		const char *name;
		napi_callback call;
	} functions[] = {
		{ "start", start },	{ "stop", stop },     { "rouse", rouse },
		{ "listening", add_listening }, { "forget", forget }, { "rows", give_rows },
		{ "open", open_sockets }, { "close", close_socket },
		{ "drops", add_drops },	{ "dropped", dropped }, { "probe", probe },
		{ "limitSessions", limit_sessions },
	};
	napi_value value;

	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].call, NULL, &value);
		napi_set_named_property(env, exports, functions[i].name, value);
	}
	napi_create_int32(env, RECORDS_VERSION, &value);
	napi_set_named_property(env, exports, "version", value);
	napi_set_named_property(env, exports, "reasons", reasons(env));
	return exports;
}
