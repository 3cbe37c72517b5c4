// SPDX-License-Identifier: MIT
// What each subject and workload of the device benchmark needs: errors, events, medians, rows.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace bench {

inline void check(cudaError_t error, const char* call) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "device_bench: %s failed: %s\n", call, cudaGetErrorString(error));
    std::exit(1);
}

inline unsigned processors() {
    int device = 0, count = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
    return static_cast<unsigned>(count);
}

/// Events around one launch; microseconds.
class Timer {
public:
    Timer() {
        check(cudaEventCreate(&begin_), "cudaEventCreate");
        check(cudaEventCreate(&end_), "cudaEventCreate");
    }
    template <class Launch>
    double time_us(const Launch& launch) {
        check(cudaDeviceSynchronize(), "the work before a timed launch");
        check(cudaEventRecord(begin_), "cudaEventRecord");
        launch();
        check(cudaGetLastError(), "a timed launch");
        check(cudaEventRecord(end_), "cudaEventRecord");
        check(cudaEventSynchronize(end_), "a timed launch");
        float ms = 0;
        check(cudaEventElapsedTime(&ms, begin_, end_), "cudaEventElapsedTime");
        return ms * 1000.0;
    }

private:
    cudaEvent_t begin_{}, end_{};
};

inline double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
}

/// One row: subject,case,metric,unit,value.
inline void row(const char* subject, const std::string& name, const char* metric, const char* unit, double value) {
    std::printf("%s,%s,%s,%s,%.6g\n", subject, name.c_str(), metric, unit, value);
    std::fflush(stdout);
}

__host__ __device__ inline std::uint32_t mix(std::uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

} // namespace bench
