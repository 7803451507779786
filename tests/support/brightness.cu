// A network whose answers can be worked out by hand: anomaly_map = mean of the channels / 255, score = its maximum.

struct BrightnessArgs {
    const unsigned char *image;  // (1, 256, 256, 3)
    float *anomaly_map;          // (1, 256, 256)
    unsigned *score;             // (1): bits of a float; zero when it begins
};

extern "C" __global__ void brightness(BrightnessArgs args) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned char *pixel = args.image + 3 * i;
    const float value = (pixel[0] + pixel[1] + pixel[2]) / 3.0f / 255.0f;
    args.anomaly_map[i] = value;
    // Floats that are not negative are ordered as their bits are.
    atomicMax(args.score, __float_as_uint(value));
}
